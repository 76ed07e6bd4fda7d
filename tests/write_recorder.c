/* Preloaded into a process and its children, this records in $WRITE_RECORD what they do to files below $WRITE_RECORD_ROOT.
 *
 * One record for each operation, appended by one write: a letter, the inode, an offset, the lengths of two texts, the texts.
 *   c create a file (path)     t set a file's length (offset)    w write (offset, data)    s sync a file or a folder
 *   m make a folder (path)     r rename (path, path)             u remove a name (path)    l another name (path, path)
 * tests/power_cut.py reads them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

struct record {
    char operation;
    uint64_t inode;
    int64_t offset;
    uint32_t first, second;
} __attribute__((packed));

static int record_file = -1;
static char root[PATH_MAX];
static size_t root_length;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("WRITE_RECORD"), *folder = getenv("WRITE_RECORD_ROOT");
    if (!path || !folder || !realpath(folder, root)) return;
    root_length = strlen(root);
    REAL(int, "open", const char *, int, ...);
    int file = real(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    record_file = fcntl(file, F_DUPFD_CLOEXEC, 900); /* where no program expects one of its own */
    close(file);
}

static int is_below_root(const char *path) {
    return root_length && !strncmp(path, root, root_length) && path[root_length] == '/';
}

static void append(char operation, uint64_t inode, int64_t offset, const void *first, size_t first_length, const char *second) {
    int error = errno;
    struct record head = {operation, inode, offset, (uint32_t)first_length, second ? (uint32_t)strlen(second) : 0};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)first, head.first}, {(void *)second, head.second}};
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    ssize_t expected = (ssize_t)(sizeof head + head.first + head.second);
    if (record_file < 0 || real(record_file, parts, 3) != expected) abort(); /* an incomplete record proves nothing */
    errno = error;
}

/* Put the whole path of a name in a folder; 0 where it is not below the root. */
static int whole_path(int folder, const char *name, char *path) {
    char joined[2 * PATH_MAX], parent[PATH_MAX];
    int error = errno;
    if (name[0] == '/') {
        snprintf(joined, sizeof joined, "%s", name);
    } else {
        char link[64];
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, parent, sizeof parent - 1);
        parent[length < 0 ? 0 : length] = 0;
        snprintf(joined, sizeof joined, "%s/%s", parent, name);
    }
    size_t end = strlen(joined);
    while (end > 1 && joined[end - 1] == '/') joined[--end] = 0;
    char *slash = strrchr(joined, '/');
    if (!slash || slash == joined) return 0;
    *slash = 0;
    int found = realpath(joined, parent) != NULL;
    errno = error;
    if (!found) return 0;
    return snprintf(path, PATH_MAX, "%s/%s", parent, slash + 1) < PATH_MAX && is_below_root(path);
}

static int is_recorded(int file, struct stat *status) {
    char link[64], path[PATH_MAX];
    int error = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = root_length ? readlink(link, path, sizeof path - 1) : -1;
    path[length < 0 ? 0 : length] = 0;
    int recorded = length > 0 && (is_below_root(path) || !strcmp(path, root)) && fstat(file, status) == 0
        && (S_ISREG(status->st_mode) || S_ISDIR(status->st_mode));
    errno = error;
    return recorded;
}

/* ---------------------------------------------------------------- opening */

static int open_recorded(int folder, const char *name, int flags, mode_t mode) {
    REAL(int, "openat", int, const char *, int, ...);
    char path[PATH_MAX];
    struct stat before;
    int below = (flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE && whole_path(folder, name, path);
    int error = errno, existed = below && stat(path, &before) == 0;
    errno = error;
    int file = real(folder, name, flags, mode);
    struct stat status;
    if (file >= 0 && below && is_recorded(file, &status) && S_ISREG(status.st_mode)) {
        if (!existed) append('c', status.st_ino, 0, path, strlen(path), NULL);
        else if ((flags & O_TRUNC) && before.st_size) append('t', status.st_ino, 0, NULL, 0, NULL);
    }
    return file;
}

static mode_t mode_of(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = mode_of(flags, rest); \
        va_end(rest); \
        return open_recorded(AT_FDCWD, path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = mode_of(flags, rest); \
        va_end(rest); \
        return open_recorded(folder, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int creat(const char *path, mode_t mode) { return open_recorded(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_recorded(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static FILE *fopen_recorded(const char *path, const char *mode) {
    REAL(FILE *, "fopen64", const char *, const char *);
    char whole[PATH_MAX];
    if (mode[0] != 'r' && whole_path(AT_FDCWD, path, whole)) {
        int file = open_recorded(AT_FDCWD, path, O_CREAT | O_WRONLY | (mode[0] == 'w' ? O_TRUNC : 0), 0666);
        if (file >= 0) close(file);
    }
    return real(path, mode);
}
FILE *fopen(const char *path, const char *mode) { return fopen_recorded(path, mode); }
FILE *fopen64(const char *path, const char *mode) { return fopen_recorded(path, mode); }

/* ---------------------------------------------------------------- content */

static void note_write(int file, const void *data, ssize_t length, off_t offset) {
    struct stat status;
    if (length <= 0 || file == record_file || !is_recorded(file, &status)) return;
    int error = errno;
    if (offset < 0) offset = lseek(file, 0, SEEK_CUR) - length;
    errno = error;
    append('w', status.st_ino, offset, data, (size_t)length, NULL);
}

static void note_vector(int file, const struct iovec *parts, int count, ssize_t length, off_t offset) {
    if (length <= 0 || file == record_file) return;
    char *data = malloc((size_t)length);
    size_t filled = 0;
    for (int index = 0; index < count && filled < (size_t)length; index++) {
        size_t part = parts[index].iov_len < length - filled ? parts[index].iov_len : length - filled;
        memcpy(data + filled, parts[index].iov_base, part);
        filled += part;
    }
    note_write(file, data, length, offset);
    free(data);
}

ssize_t write(int file, const void *data, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    ssize_t written = real(file, data, length);
    note_write(file, data, written, -1);
    return written;
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    ssize_t written = real(file, parts, count);
    note_vector(file, parts, count, written, -1);
    return written;
}

#define PWRITE(name) \
    ssize_t name(int file, const void *data, size_t length, off_t offset) { \
        REAL(ssize_t, #name, int, const void *, size_t, off_t); \
        ssize_t written = real(file, data, length, offset); \
        note_write(file, data, written, offset); \
        return written; \
    }
#define PWRITEV(name) \
    ssize_t name(int file, const struct iovec *parts, int count, off_t offset) { \
        REAL(ssize_t, #name, int, const struct iovec *, int, off_t); \
        ssize_t written = real(file, parts, count, offset); \
        note_vector(file, parts, count, written, offset); \
        return written; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define NO_COPY(signature) \
    ssize_t signature { \
        errno = ENOSYS; /* the caller then reads and writes */ \
        return -1; \
    }
NO_COPY(sendfile(int target, int source, off_t *offset, size_t length))
NO_COPY(sendfile64(int target, int source, off_t *offset, size_t length))
NO_COPY(copy_file_range(int source, off_t *from, int target, off_t *to, size_t length, unsigned flags))

#define FTRUNCATE(name) \
    int name(int file, off_t length) { \
        REAL(int, #name, int, off_t); \
        int result = real(file, length); \
        struct stat status; \
        if (!result && is_recorded(file, &status)) append('t', status.st_ino, length, NULL, 0, NULL); \
        return result; \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

#define SYNC(name) \
    int name(int file) { \
        REAL(int, #name, int); \
        int result = real(file); \
        struct stat status; \
        if (!result && is_recorded(file, &status)) append('s', status.st_ino, 0, NULL, 0, NULL); \
        return result; \
    }
SYNC(fsync)
SYNC(fdatasync)

/* ---------------------------------------------------------------- names */

int mkdirat(int folder, const char *name, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    char path[PATH_MAX];
    struct stat status;
    int result = real(folder, name, mode);
    if (!result && whole_path(folder, name, path) && !stat(path, &status)) append('m', status.st_ino, 0, path, strlen(path), NULL);
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

static int rename_recorded(int old_folder, const char *old, int new_folder, const char *new, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    char from[PATH_MAX], to[PATH_MAX];
    int from_below = whole_path(old_folder, old, from), to_below = whole_path(new_folder, new, to);
    int result = real(old_folder, old, new_folder, new, flags);
    if (!result && from_below != to_below) abort(); /* across the root: the record could not say what came in */
    if (!result && from_below) append('r', 0, 0, from, strlen(from), to);
    return result;
}
int rename(const char *old, const char *new) { return rename_recorded(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int old_folder, const char *old, int new_folder, const char *new) {
    return rename_recorded(old_folder, old, new_folder, new, 0);
}
int renameat2(int old_folder, const char *old, int new_folder, const char *new, unsigned flags) {
    return rename_recorded(old_folder, old, new_folder, new, flags);
}

int unlinkat(int folder, const char *name, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char path[PATH_MAX];
    int below = whole_path(folder, name, path), result = real(folder, name, flags);
    if (!result && below) append('u', 0, 0, path, strlen(path), NULL);
    return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int linkat(int old_folder, const char *old, int new_folder, const char *new, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    char from[PATH_MAX], to[PATH_MAX];
    int below = whole_path(old_folder, old, from) && whole_path(new_folder, new, to);
    int result = real(old_folder, old, new_folder, new, flags);
    if (!result && below) append('l', 0, 0, from, strlen(from), to);
    return result;
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }
