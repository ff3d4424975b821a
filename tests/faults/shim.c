/* Makes the k-th call that changes a folder fail, as a broken or a full disk would.
 *
 * Loaded with LD_PRELOAD. Does nothing until `fault_use` names the memory that it shares with the program which arms
 * it and the folder whose files it watches. Each call on a file of that folder, of a kind in `kinds`, is counted and
 * noted; call number `at` (and all after it, if `sticky`) fails with `error`, or, if `error` is -1, writes half.
 *
 * Kinds: w write, s sync, r rename, t truncate, o open to create or write, m mkdir, f fallocate, u unlink and rmdir;
 * R read, O open to read.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MOST = 4096, NAME = 64 };

struct shared {
    int armed, error, sticky, at;
    char kinds[16];
    char only[NAME]; /* if not empty: only files whose path contains it */
    atomic_int calls;
    char noted[MOST][NAME]; /* kind, then the end of the path */
};

static struct shared *now;
static char folder[4096];
static size_t folder_length;

void fault_use(void *shared, const char *dir) {
    now = shared;
    snprintf(folder, sizeof folder, "%s/", dir);
    folder_length = strlen(folder);
}

/* 0: go on; 1: fail; 2: write half */
static int meet(char kind, const char *path) {
    if (!now || !now->armed || !strchr(now->kinds, kind)) return 0;
    char slashed[4200];
    snprintf(slashed, sizeof slashed, "%s/", path);
    if (strncmp(slashed, folder, folder_length) != 0) return 0;
    if (now->only[0] && !strstr(path, now->only)) return 0;
    int number = atomic_fetch_add(&now->calls, 1);
    if (number < MOST) {
        size_t length = strlen(path);
        const char *end = length > NAME - 3 ? path + length - (NAME - 3) : path;
        snprintf(now->noted[number], NAME, "%c %s", kind, end);
    }
    if (now->at < 0 || number < now->at || (number > now->at && !now->sticky)) return 0;
    if (now->error == -1) return kind == 'w' ? 2 : 0;
    errno = now->error;
    return 1;
}

static int meet_fd(char kind, int fd) {
    if (!now || !now->armed) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int kept = errno;
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = kept;
    if (length <= 0) return 0;
    path[length] = 0;
    return meet(kind, path);
}

/* of a path that begins at an open folder */
static int meet_at(char kind, int at, const char *path) {
    if (path[0] == '/' || at == AT_FDCWD) return meet(kind, path);
    if (!now || !now->armed) return 0;
    char link[64], whole[4200];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    int kept = errno;
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, whole, 4000);
    errno = kept;
    if (length <= 0) return 0;
    snprintf(whole + length, sizeof whole - length, "/%s", path);
    return meet(kind, whole);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define HALF(n) ((n) > 1 ? (n) / 2 : (n))

#define WRITE(name, more, give)                                                   \
    ssize_t name more {                                                           \
        static ssize_t(*real) more;                                               \
        if (!real) real = (ssize_t(*) more)dlsym(RTLD_NEXT, #name);               \
        int met = meet_fd('w', fd);                                               \
        if (met == 1) return -1;                                                  \
        if (met == 2) n = HALF(n);                                                \
        return real give;                                                         \
    }
WRITE(write, (int fd, const void *data, size_t n), (fd, data, n))
WRITE(pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
WRITE(pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))

/* of several buffers, half is the first half of the buffers, or of the only one */
#define WRITEV(name, more, give)                                                  \
    ssize_t name more {                                                           \
        static ssize_t(*real) more;                                               \
        struct iovec one;                                                         \
        if (!real) real = (ssize_t(*) more)dlsym(RTLD_NEXT, #name);               \
        int met = meet_fd('w', fd);                                               \
        if (met == 1) return -1;                                                  \
        if (met == 2 && n == 1) {                                                 \
            one = *parts;                                                         \
            one.iov_len = HALF(one.iov_len);                                      \
            parts = &one;                                                         \
        } else if (met == 2) {                                                    \
            n = HALF(n);                                                          \
        }                                                                         \
        return real give;                                                         \
    }
WRITEV(writev, (int fd, const struct iovec *parts, int n), (fd, parts, n))
WRITEV(pwritev, (int fd, const struct iovec *parts, int n, off_t at), (fd, parts, n, at))
WRITEV(pwritev64, (int fd, const struct iovec *parts, int n, off64_t at), (fd, parts, n, at))
WRITEV(pwritev2, (int fd, const struct iovec *parts, int n, off_t at, int how), (fd, parts, n, at, how))
WRITEV(pwritev64v2, (int fd, const struct iovec *parts, int n, off64_t at, int how), (fd, parts, n, at, how))

#define ON_FD(kind, type, name, more, give)                                       \
    type name more {                                                              \
        static type(*real) more;                                                  \
        if (!real) real = (type(*) more)dlsym(RTLD_NEXT, #name);                  \
        if (meet_fd(kind, fd) == 1) return -1;                                    \
        return real give;                                                         \
    }
ON_FD('s', int, fsync, (int fd), (fd))
ON_FD('s', int, fdatasync, (int fd), (fd))
ON_FD('s', int, sync_file_range, (int fd, off64_t at, off64_t n, unsigned how), (fd, at, n, how))
ON_FD('t', int, ftruncate, (int fd, off_t size), (fd, size))
ON_FD('t', int, ftruncate64, (int fd, off64_t size), (fd, size))
ON_FD('f', int, fallocate, (int fd, int how, off_t at, off_t size), (fd, how, at, size))
ON_FD('f', int, fallocate64, (int fd, int how, off64_t at, off64_t size), (fd, how, at, size))
ON_FD('R', ssize_t, read, (int fd, void *data, size_t n), (fd, data, n))
ON_FD('R', ssize_t, pread, (int fd, void *data, size_t n, off_t at), (fd, data, n, at))
ON_FD('R', ssize_t, pread64, (int fd, void *data, size_t n, off64_t at), (fd, data, n, at))
ON_FD('R', ssize_t, preadv, (int fd, const struct iovec *parts, int n, off_t at), (fd, parts, n, at))
ON_FD('R', ssize_t, preadv64, (int fd, const struct iovec *parts, int n, off64_t at), (fd, parts, n, at))

int posix_fallocate(int fd, off_t at, off_t size) {
    if (meet_fd('f', fd) == 1) return errno;
    return REAL(posix_fallocate)(fd, at, size);
}
int posix_fallocate64(int fd, off64_t at, off64_t size) {
    if (meet_fd('f', fd) == 1) return errno;
    return REAL(posix_fallocate64)(fd, at, size);
}

#define ON_PATH(kind, type, name, more, give)                                     \
    type name more {                                                              \
        static type(*real) more;                                                  \
        if (!real) real = (type(*) more)dlsym(RTLD_NEXT, #name);                  \
        if (meet(kind, path) == 1) return -1;                                     \
        return real give;                                                         \
    }
ON_PATH('r', int, rename, (const char *from, const char *path), (from, path))
ON_PATH('t', int, truncate, (const char *path, off_t size), (path, size))
ON_PATH('t', int, truncate64, (const char *path, off64_t size), (path, size))
ON_PATH('m', int, mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH('u', int, unlink, (const char *path), (path))
ON_PATH('u', int, rmdir, (const char *path), (path))

#define ON_PATH_AT(kind, name, more, give)                                        \
    int name more {                                                               \
        static int(*real) more;                                                   \
        if (!real) real = (int(*) more)dlsym(RTLD_NEXT, #name);                   \
        if (meet_at(kind, at, path) == 1) return -1;                              \
        return real give;                                                         \
    }
ON_PATH_AT('r', renameat, (int a, const char *from, int at, const char *path), (a, from, at, path))
ON_PATH_AT('r', renameat2, (int a, const char *from, int at, const char *path, unsigned how), (a, from, at, path, how))
ON_PATH_AT('u', unlinkat, (int at, const char *path, int how), (at, path, how))

static char opened(int how) {
    return (how & O_ACCMODE) != O_RDONLY || how & (O_CREAT | O_TRUNC) ? 'o' : 'O';
}
#define OPEN(name)                                                                \
    int name(const char *path, int how, ...) {                                    \
        static int (*real)(const char *, int, ...);                               \
        if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
        va_list more;                                                             \
        va_start(more, how);                                                      \
        mode_t mode = va_arg(more, mode_t);                                       \
        va_end(more);                                                             \
        if (meet(opened(how), path) == 1) return -1;                              \
        return real(path, how, mode);                                             \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                                              \
    int name(int at, const char *path, int how, ...) {                            \
        static int (*real)(int, const char *, int, ...);                          \
        if (!real) real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, #name); \
        va_list more;                                                             \
        va_start(more, how);                                                      \
        mode_t mode = va_arg(more, mode_t);                                       \
        va_end(more);                                                             \
        if (meet_at(opened(how), at, path) == 1) return -1;                       \
        return real(at, path, how, mode);                                         \
    }
OPENAT(openat)
OPENAT(openat64)
