// Package rotation turns keys and secrets on time and can prove that it did. It
// holds the schedules, the policies, the pure machine that decides, the engine
// that does, the history, and Keyturn's own API operations.
//
// A rotation is a row. What happens next is decided by next, what is stored
// afterwards by after, both pure; the engine claims a row whose time has come,
// does one step through a Rotator, and stores the result. It keeps nothing in
// memory between two steps, so that recovery after a crash is the ordinary
// code, and any number of engines may share one database.
//
// It promises the eight invariants of the design: among them that the alias
// always names a tested key, that no key signs before it was published for the
// lead time, that a failure leaves the old generation current and says so, and
// that no policy falls silent, because the next rotation is stored in the same
// transaction as the switch of the last one.
//
// It trusts the database's transactions, and the clock as far as it goes
// forward: a clock set back repeats and skips nothing, a clock set forward makes
// waits end early. It does not trust calls to succeed or fail cleanly: whatever
// a step did may have happened although it reported a failure, so every step is
// done again under the same token until it says that it is done.
package rotation
