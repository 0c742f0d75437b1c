/* The sandbox's first process: it only waits, ends when asked, and reaps orphans of a shared pid namespace. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal_number) { (void)signal_number; _exit(0); }

static void reap(int signal_number) { (void)signal_number; while (waitpid(-1, 0, WNOHANG) > 0) continue; }

int main(void) {
    signal(SIGINT, leave);
    signal(SIGTERM, leave);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
