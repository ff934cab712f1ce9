package software

// WeakPassphrase is a passphrase with almost no scrypt work, for tests only.
func WeakPassphrase(passphrase string) *Passphrase {
	return &Passphrase{passphrase: passphrase, workFactor: 4}
}

// MakesNothingAhead returns a store that was just opened, whose RSA keys are all
// made on demand.
func MakesNothingAhead(s *Store) *Store {
	s.pool.ready[""] = nil // as if making some ahead had begun
	return s
}
