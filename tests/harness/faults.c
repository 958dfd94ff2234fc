/*
 * Preloaded into nginx: files whose path contains FAULTY_PATH can be read up to byte 65536; from there on, reading them
 * fails with EIO, as on a broken disk.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define GOOD 65536

static char *faulty;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("FAULTY_PATH");

    faulty = path ? strdup(path) : NULL; /* nginx writes over its environment */
}

/* How many of `size` bytes at `offset` can be read. */
static size_t readable(int fd, off64_t offset, size_t size)
{
    char link[64], path[4096];
    ssize_t length;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof(path) - 1);
    path[length < 0 ? 0 : length] = '\0';

    if (!faulty || !strstr(path, faulty)) {
        return size;
    }
    if (offset >= GOOD) {
        return 0;
    }
    return size < (size_t) (GOOD - offset) ? size : (size_t) (GOOD - offset);
}

ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset)
{
    ssize_t (*next)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pread64");
    size_t good = readable(fd, offset, size);

    if (good < size) {
        errno = EIO;
        return -1;
    }
    return next(fd, buffer, size, offset);
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t size)
{
    ssize_t (*next)(int, int, off64_t *, size_t) = dlsym(RTLD_NEXT, "sendfile64");
    size_t good = readable(in, *offset, size);

    if (good == 0 && size > 0) {
        errno = EIO;
        return -1;
    }
    return next(out, in, offset, good);
}
