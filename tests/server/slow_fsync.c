/* For LD_PRELOAD: a disk that is slow to sync. While the file named by SLOW_FSYNC_GATE exists, fsync and fdatasync take
 * SLOW_FSYNC_MS milliseconds (less if the gate is removed meanwhile), and leave a file <gate>.entered when they begin. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_at_the_gate(void) {
    const char *gate = getenv("SLOW_FSYNC_GATE");
    const char *milliseconds = getenv("SLOW_FSYNC_MS");
    char entered[4096];
    if (!gate || access(gate, F_OK) != 0) return;
    snprintf(entered, sizeof entered, "%s.entered", gate);
    int file = open(entered, O_CREAT | O_WRONLY, 0600);
    if (file >= 0) close(file);
    for (int left = milliseconds ? atoi(milliseconds) : 300; left > 0 && access(gate, F_OK) == 0; left -= 10) usleep(10000);
}

int fsync(int file) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_at_the_gate();
    return next(file);
}

int fdatasync(int file) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_at_the_gate();
    return next(file);
}
