package software

import "golang.org/x/sys/unix"

// niceThread lowers the priority of the calling thread. On Linux, unlike what
// POSIX says, a nice value belongs to a thread. Where that is refused the thread
// keeps its priority and keys are made all the same.
func niceThread(nice int) { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice) }
