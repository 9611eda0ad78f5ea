/* Fails the Nth of the calls that write to a file system, counted over the life of the process, with
 * EIO; with NTH_ON set all that follow as well. Loaded into the command by LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_long calls;

static int fails(void)
{
    const char *nth = getenv("NTH");
    long call = atomic_fetch_add(&calls, 1) + 1;
    long wanted = nth == NULL ? 0 : atol(nth);
    if (wanted == 0 || call < wanted || (call > wanted && getenv("NTH_ON") == NULL))
        return 0;
    errno = EIO;
    return 1;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define OPENS(name)                                  \
    int name(const char *path, int flags, ...)       \
    {                                                \
        va_list rest;                                \
        va_start(rest, flags);                       \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                \
        REAL(name);                                  \
        return flags & O_CREAT && fails() ? -1 : real(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

ssize_t write(int file, const void *bytes, size_t len)
{
    REAL(write);
    return file > 2 && fails() ? -1 : real(file, bytes, len);
}

#define CALLS(name, parameters, arguments)           \
    int name parameters                              \
    {                                                \
        REAL(name);                                  \
        return fails() ? -1 : real arguments;        \
    }
CALLS(fsync, (int file), (file))
CALLS(fdatasync, (int file), (file))
CALLS(rename, (const char *from, const char *to), (from, to))
CALLS(mkdir, (const char *path, mode_t mode), (path, mode))
CALLS(chmod, (const char *path, mode_t mode), (path, mode))
CALLS(fchmod, (int file, mode_t mode), (file, mode))
CALLS(fchown, (int file, uid_t user, gid_t group), (file, user, group))
