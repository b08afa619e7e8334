// Records what a process does to the files of one folder: preloaded before the C library, it writes each call that changes something
// to a log, in the order of the calls. RECORDED_FOLDER: absolute path; RECORDED_LOG: path.
//
// An entry of the log: operation (1 byte), length of the name (4 bytes), offset (8), length of the data (4), name, data.
// W write at the offset; T truncate to the offset; C create; U unlink; S sync of the file; D sync of the folder.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REAL(type, name, ...)                                     \
    static type (*real)(__VA_ARGS__);                             \
    if (real == NULL) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

// The name of a path within the folder; "" for the folder itself; NULL: it is elsewhere.
static const char *within(const char *path) {
    const char *folder = getenv("RECORDED_FOLDER");
    size_t length = folder == NULL ? 0 : strlen(folder);
    if (length == 0 || strncmp(path, folder, length) != 0) return NULL;
    if (path[length] == '\0') return "";
    return path[length] == '/' ? path + length + 1 : NULL;
}

static const char *name_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return NULL;
    path[length] = '\0';
    return within(path);
}

static void put(int log, const void *data, size_t length) {
    if (syscall(SYS_write, log, data, length) != (long)length) abort();
}

static void record(char operation, const char *name, uint64_t offset, const void *data, uint32_t length) {
    static int log = -1;
    if (name == NULL) return;
    uint32_t name_length = strlen(name);
    pthread_mutex_lock(&one_at_a_time);
    if (log < 0) {
        const char *path = getenv("RECORDED_LOG");
        log = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log < 0) abort();
    }
    put(log, &operation, 1);
    put(log, &name_length, 4);
    put(log, &offset, 8);
    put(log, &length, 4);
    put(log, name, name_length);
    if (length > 0) put(log, data, length);
    pthread_mutex_unlock(&one_at_a_time);
}

static void created(const char *path, int flags, int was_there, int fd) {
    if (fd < 0 || within(path) == NULL) return;
    if ((flags & O_CREAT) && !was_there) record('C', within(path), 0, NULL, 0);
    if ((flags & O_TRUNC) && was_there) record('T', within(path), 0, NULL, 0);
}

#define OPEN(function)                                            \
    int function(const char *path, int flags, ...) {              \
        REAL(int, #function, const char *, int, ...);             \
        va_list rest;                                             \
        va_start(rest, flags);                                    \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                             \
        int was_there = access(path, F_OK) == 0;                  \
        int fd = real(path, flags, mode);                         \
        created(path, flags, was_there, fd);                      \
        return fd;                                                \
    }
OPEN(open)
OPEN(open64)

#define PWRITE(function)                                                          \
    ssize_t function(int fd, const void *data, size_t length, off64_t offset) {   \
        REAL(ssize_t, #function, int, const void *, size_t, off64_t);             \
        char path[PATH_MAX];                                                      \
        ssize_t done = real(fd, data, length, offset);                            \
        if (done > 0) record('W', name_of(fd, path), offset, data, done);         \
        return done;                                                              \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int fd, const void *data, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    char path[PATH_MAX];
    ssize_t done = real(fd, data, length);
    const char *name = name_of(fd, path);
    if (done > 0 && name != NULL) record('W', name, lseek(fd, 0, SEEK_CUR) - done, data, done);
    return done;
}

#define TRUNCATE(function)                                        \
    int function(int fd, off64_t length) {                        \
        REAL(int, #function, int, off64_t);                       \
        char path[PATH_MAX];                                      \
        int done = real(fd, length);                              \
        if (done == 0) record('T', name_of(fd, path), length, NULL, 0); \
        return done;                                              \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define SYNC(function)                                            \
    int function(int fd) {                                        \
        REAL(int, #function, int);                                \
        char path[PATH_MAX];                                      \
        int done = real(fd);                                      \
        const char *name = name_of(fd, path);                     \
        if (done == 0 && name != NULL) record(*name ? 'S' : 'D', name, 0, NULL, 0); \
        return done;                                              \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    int done = real(path);
    if (done == 0) record('U', within(path), 0, NULL, 0);
    return done;
}

// Not known here: whoever uses it must be taught first.
int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (within(from) != NULL || within(to) != NULL) abort();
    return real(from, to);
}
