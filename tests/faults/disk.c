// A disk that refuses, for a program that knows nothing of it (LD_PRELOAD): below FAULT_ROOT, the operation number FAULT_AT that changes
// something fails as FAULT_KIND says. Operations are counted from 1, and how many there were stands in FAULT_LOG at the end.
//
// full:  from there on nothing can be written (ENOSPC)
// short: that write takes half of its bytes, and from there on nothing can be written
// once:  that operation fails (EIO), later ones work
// locked: from there on nothing can be made, renamed or removed (EROFS)
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long operations;
static atomic_int failed;

static int below(const char *path) {
    const char *root = getenv("FAULT_ROOT");
    char whole[4096];
    if (!root || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(whole, 2048)) return 0;
        strcat(whole, "/");
        strncat(whole, path, 2000);
        path = whole;
    }
    return strncmp(path, root, strlen(root)) == 0;
}

static int holds(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

// What becomes of an operation: 0 it works, -1 it fails with errno, 1 a write takes half.
static int fate(const char *what, int writes_bytes) {
    long at = atol(getenv("FAULT_AT") ? getenv("FAULT_AT") : "0");
    const char *kind = getenv("FAULT_KIND") ? getenv("FAULT_KIND") : "full";
    long number = atomic_fetch_add(&operations, 1) + 1;
    if (at == 0 || number < at) return 0;
    int first = number == at;
    if (first) {
        fprintf(stderr, "fault: %s at operation %ld (%s)\n", kind, number, what);
        atomic_store(&failed, 1);
    }
    if (!strcmp(kind, "once")) {
        errno = EIO;
        return first ? -1 : 0;
    }
    if (!strcmp(kind, "locked")) {
        errno = EROFS;
        return writes_bytes ? 0 : -1;
    }
    if (!strcmp(kind, "short") && first && writes_bytes == 1) return 1;
    errno = ENOSPC;
    return -1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int opened(const char *name, const char *path, int flags, mode_t mode) {
    REAL(open64);
    if ((flags & (O_CREAT | O_TRUNC)) && below(path) && fate(name, 0)) return -1;
    return real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    return opened("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    return opened("open", path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(write);
    // (the message about the fault itself goes through here, to standard error)
    int what = fd > 2 && holds(fd) ? fate("write", 1) : 0;
    if (what < 0) return -1;
    return real(fd, bytes, what == 1 && count > 1 ? count / 2 : count);
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t count, unsigned flags) {
    REAL(copy_file_range);
    if (holds(out) && fate("copy", 2)) return -1;
    return real(in, from, out, to, count, flags);
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    return holds(fd) && fate("extend", 2) ? -1 : real(fd, length);
}

int fsync(int fd) {
    REAL(fsync);
    return holds(fd) && fate("sync", 2) ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return holds(fd) && fate("sync", 2) ? -1 : real(fd);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return below(to) && fate("rename", 0) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return below(path) && fate("mkdir", 0) ? -1 : real(path, mode);
}

int unlink(const char *path) {
    REAL(unlink);
    return below(path) && fate("unlink", 0) ? -1 : real(path);
}

__attribute__((destructor)) static void tell(void) {
    const char *log = getenv("FAULT_LOG");
    FILE *file = log ? fopen(log, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld %d\n", atomic_load(&operations), atomic_load(&failed));
    fclose(file);
}
