/* What the mock engine and the load generator share: time, growing buffers, HTTP/1.1 heads. */
#ifndef HARNESS_H
#define HARNESS_H

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#define NEVER_NS UINT64_MAX
#define STAMP_MARK '@'  /* in front of the time of sending, in every event */
#define STAMP_DIGITS 16 /* microseconds on CLOCK_MONOTONIC, padded with zeros */

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static inline void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static inline void *allocate(void *old, size_t bytes) {
    void *memory = realloc(old, bytes);
    if (memory == NULL) die("out of memory: %zu bytes", bytes);
    return memory;
}

typedef struct {
    char *bytes;
    size_t length, capacity;
} Buffer;

static inline void append(Buffer *buffer, const void *bytes, size_t length) {
    if (buffer->length + length > buffer->capacity) {
        buffer->capacity = 2 * (buffer->length + length);
        buffer->bytes = allocate(buffer->bytes, buffer->capacity);
    }
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

static inline void drop_front(Buffer *buffer, size_t length) {
    buffer->length -= length;
    memmove(buffer->bytes, buffer->bytes + length, buffer->length);
}

/* Bytes up to and with the empty line that ends a head; 0 where it is not whole. */
static inline size_t head_length(const char *bytes, size_t length) {
    const char *end = memmem(bytes, length, "\r\n\r\n", 4);
    return end == NULL ? 0 : (size_t)(end - bytes) + 4;
}

/* The value of a header, up to the end of its line; NULL where there is none. */
static inline const char *header_value(const char *head, size_t length, const char *name) {
    size_t name_length = strlen(name);
    const char *end = head + length;
    const char *line = memchr(head, '\n', length);
    while (line != NULL && ++line + name_length < end) {
        if (line[name_length] == ':' && strncasecmp(line, name, name_length) == 0) {
            line += name_length + 1;
            while (*line == ' ') line++;
            return line;
        }
        line = memchr(line, '\n', (size_t)(end - line));
    }
    return NULL;
}

/* A whole number in a header; `otherwise` where the header is absent. */
static inline unsigned long header_number(
    const char *head, size_t length, const char *name, unsigned long otherwise) {
    const char *value = header_value(head, length, name);
    return value == NULL ? otherwise : strtoul(value, NULL, 10);
}

/* Waits for sockets or for `due_ns`, whichever is first, without ever sleeping.
 *
 * Whoever writes to a process that sleeps pays for waking it, which on a virtual machine can cost
 * more than all the rest of a request. A proxy would be charged for that the more often the slower
 * it is. So load and engine stay awake, and take turns on their core.
 */
static inline int wait_until(int epoll, struct epoll_event *events, int most, uint64_t due_ns) {
    for (;;) {
        int count = epoll_wait(epoll, events, most, 0);
        if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
        if (count > 0) return count;
        if (due_ns != NEVER_NS && now_ns() >= due_ns) return 0;
        sched_yield();
    }
}

static inline void watch(int epoll, int operation, int fd, uint32_t interest, void *owner) {
    struct epoll_event event = {.events = interest, .data.ptr = owner};
    if (epoll_ctl(epoll, operation, fd, &event) != 0) die("epoll_ctl: %s", strerror(errno));
}

/* As many descriptors as the system lets us have, and timers that are not rounded up. */
static inline void raise_limits(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    prctl(PR_SET_TIMERSLACK, 1UL);
}

static inline void set_no_delay(int fd) {
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

#endif
