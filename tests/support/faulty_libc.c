/* Preloaded into a process: a C library whose clock, disk and threads are as a test wants them to be.

   DELTAFORGE_FAULTY_LIBC names a file of numbers, which the test may change at any time; see faulty_libc.py. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { CLOCK_S, WRITE_ERRNO, FSYNC_ERRNO, THREAD_ERRNO, NUMBERS };

/* A wall clock's time is above, a monotonic clock's below. */
#define LONG_AGO 1000000000
#define SLICE_NS 20000000
#define SECOND_NS 1000000000

static int64_t nothing[NUMBERS];
static volatile int64_t *told = nothing;

__attribute__((constructor)) static void attach(void) {
  const char *name = getenv("DELTAFORGE_FAULTY_LIBC");
  int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *found = mmap(NULL, sizeof nothing, PROT_READ, MAP_SHARED, fd, 0);
  if (found != MAP_FAILED) told = found;
  close(fd);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* ---- the wall clock */

int clock_gettime(clockid_t clock, struct timespec *now) {
  static __typeof__(&clock_gettime) real;
  if (!real) real = REAL(clock_gettime);
  int result = real(clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += told[CLOCK_S];
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec found;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &found);
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (out) *out = found.tv_sec;
  return found.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
  return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

/* Whoever waits for a time of the wall clock waits on when it is set back, and no longer when it is set ahead. The real
   clock stands still by comparison, so wait for a little of it at a time. Between two waits the mutex is ours: whoever
   signals holding it, as both of our users do, is not missed. */
struct wait {
  struct timespec until; /* by the real clock */
  int last;              /* whether the time that was asked for is reached then */
};

static struct wait shortened(const struct timespec *until) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t left = (until->tv_sec - now.tv_sec) * (int64_t)SECOND_NS + until->tv_nsec - now.tv_nsec;
  int last = left <= SLICE_NS;
  int64_t at = now.tv_nsec + (left < 0 ? 0 : last ? left : SLICE_NS);
  return (struct wait){{now.tv_sec - told[CLOCK_S] + at / SECOND_NS, at % SECOND_NS}, last};
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  static __typeof__(&pthread_cond_timedwait) real;
  if (!real) {
    real = (__typeof__(real))dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = REAL(pthread_cond_timedwait);
  }
  if (until->tv_sec < LONG_AGO) return real(cond, mutex, until);
  for (;;) {
    struct wait wait = shortened(until);
    int result = real(cond, mutex, &wait.until);
    if (result != ETIMEDOUT || wait.last) return result;
  }
}

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until) {
  static __typeof__(&cnd_timedwait) real;
  if (!real) real = REAL(cnd_timedwait);
  for (;;) {
    struct wait wait = shortened(until);
    int result = real(cond, mutex, &wait.until);
    if (result != thrd_timedout || wait.last) return result;
  }
}

/* ---- the disk: regular files but those of standard input and output */

static int harmed(int fd, int error) {
  struct stat found;
  if (!error || fd <= 2 || fstat(fd, &found) != 0 || !S_ISREG(found.st_mode)) return 0;
  errno = error;
  return 1;
}

ssize_t write(int fd, const void *data, size_t size) {
  static __typeof__(&write) real;
  if (!real) real = REAL(write);
  return harmed(fd, (int)told[WRITE_ERRNO]) ? -1 : real(fd, data, size);
}

int fsync(int fd) {
  static __typeof__(&fsync) real;
  if (!real) real = REAL(fsync);
  return harmed(fd, (int)told[FSYNC_ERRNO]) ? -1 : real(fd);
}

/* ---- threads */

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes, void *(*run)(void *),
                   void *restrict argument) {
  static __typeof__(&pthread_create) real;
  if (!real) real = REAL(pthread_create);
  return told[THREAD_ERRNO] ? (int)told[THREAD_ERRNO] : real(thread, attributes, run, argument);
}

int thrd_create(thrd_t *thread, thrd_start_t run, void *argument) {
  static __typeof__(&thrd_create) real;
  if (!real) real = REAL(thrd_create);
  return told[THREAD_ERRNO] ? thrd_nomem : real(thread, run, argument);
}
