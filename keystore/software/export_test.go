package software

// WeakPassphrase is a passphrase with almost no scrypt work, for tests only.
func WeakPassphrase(passphrase string) *Passphrase {
	return &Passphrase{passphrase: passphrase, workFactor: 4}
}
