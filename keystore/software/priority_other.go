//go:build !linux

package software

// niceThread does nothing: elsewhere a nice value belongs to the whole process.
func niceThread(int) {}
