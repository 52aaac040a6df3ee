/* A load generator that costs far less than what it drives: one thread, one epoll, loopback.
 *
 * Usage: load closed  PORT [options]   every connection asks again as soon as it is answered
 *        load streams PORT [options]   paced streams, all held open at once
 *   --connections N      (32)          connections, or streams
 *   --seconds S          (2)           how long to measure; 0: only until everything is open
 *   --requests N         (no bound)    closed: stop after so many, if that is sooner
 *   --warm-up S          (0.3)         closed: same load before, not counted
 *   --rate R             (0)           closed: so many requests a second, evenly, on connections in
 *                                      turn; none where all wait for answers. 0: as fast as it goes
 *   --interval-us N      (20000)       streams: time between two events of one stream
 *   --body-bytes N       (256)         length of the request's body, a chat with one message
 *   --path P             (/v1/chat/completions)
 *   --header 'name: v'                 one more request header; may be repeated
 *
 * Writes {"phase": "ready", ...} when it is warm (closed: and silent; streams: and each has had
 * an event), waits for a line on its input, measures, and writes {"phase": "done", ...}. So
 * whoever runs it can read CPU times on both sides of exactly what was counted.
 * Exit status 1, with the reason, where an answer was no 200 or broke off.
 */
#include "harness.h"

#include <fcntl.h>

#define SCRATCH_BYTES (1 << 18)
#define MOST_EVENTS 512
#define MOST_OPENING 64             /* connections between connect() and their first answer */
#define BUCKETS_A_POWER 128         /* so a latency is known to within 0.8 % */
#define BUCKETS (50 * BUCKETS_A_POWER)
#define STUCK_S 20                  /* nothing at all was answered for so long: give up */
#define ENDLESS_EVENTS 100000000

typedef enum { HEAD, LENGTH_BODY, CHUNK_SIZE, CHUNK_BYTES, CHUNK_END, TRAILER, WHOLE } Part;

typedef struct {
    int fd;
    Part part;
    bool asking;            /* a request is on its way and its answer is not whole */
    bool opened;            /* an event (streams) or an answer (closed) has come */
    size_t sent;            /* bytes of the request */
    uint64_t left;          /* bytes of this part that are still to come */
    unsigned stamp_digits;  /* of an event's stamp, read so far plus one; 0 outside of a stamp */
    uint64_t stamp_us, asked_ns;
    Buffer head;            /* a head or a chunk-size line that is not whole */
} Connection;

typedef struct {
    uint64_t counts[BUCKETS], total, largest;
} Histogram;

static int epoll;
static char scratch[SCRATCH_BYTES];
static Buffer request;
static Histogram seen;          /* closed: latencies; streams: ages of events; in ns */
static unsigned long port, connections = 32, body_bytes = 256, interval_us = 20000;
static double seconds = 2, warm_up_s = 0.3, rate = 0;
static uint64_t most_requests = UINT64_MAX, asked, stop_ns, last_progress_ns;
static size_t open_count, opening, in_flight;
static bool streams;

/* --- histogram --------------------------------------------------------------------------- */

static void record(uint64_t value_ns) {
    unsigned shift = 0;
    while (value_ns >> shift >= 2 * BUCKETS_A_POWER) shift++;
    size_t bucket = shift * BUCKETS_A_POWER + (size_t)(value_ns >> shift);
    seen.counts[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    seen.total++;
    if (value_ns > seen.largest) seen.largest = value_ns;
}

static double percentile_us(double share) {
    uint64_t rank = (uint64_t)(share * (double)seen.total), passed = 0;
    for (size_t bucket = 0; bucket < BUCKETS; bucket++) {
        passed += seen.counts[bucket];
        if (passed <= rank) continue;
        size_t shift = bucket < 2 * BUCKETS_A_POWER ? 0 : bucket / BUCKETS_A_POWER - 1;
        double lower = (double)((uint64_t)(bucket - shift * BUCKETS_A_POWER) << shift);
        return (lower + (double)(1ull << shift) / 2) / 1000;
    }
    return (double)seen.largest / 1000;
}

/* --- the request ------------------------------------------------------------------------- */

static void build_request(const char *path, const Buffer *headers) {
    static const char words[] = "the quick brown fox jumps over the lazy dog and ";
    char head[1024], start[256];
    int start_length = snprintf(
        start, sizeof start,
        streams ? "{\"model\":\"mock\",\"stream\":true,\"mock_events\":%d,\"mock_interval_us\":%lu,"
                  "\"max_tokens\":64,\"messages\":[{\"role\":\"user\",\"content\":\""
                : "{\"model\":\"mock\",\"max_tokens\":64,\"messages\":[{\"role\":\"user\",\"content\":\"",
        ENDLESS_EVENTS, interval_us);
    static const char end[] = "\"}]}";
    size_t least = (size_t)start_length + sizeof end - 1;
    if (body_bytes < least) body_bytes = least;
    int head_bytes = snprintf(
        head, sizeof head,
        "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%lu\r\nUser-Agent: load\r\nAccept: */*\r\n"
        "Content-Type: application/json\r\nContent-Length: %lu\r\n",
        path, port, body_bytes);
    if (head_bytes >= (int)sizeof head) die("--path is too long: %zu bytes", strlen(path));
    append(&request, head, (size_t)head_bytes);
    append(&request, headers->bytes == NULL ? "" : headers->bytes, headers->length);
    append(&request, "\r\n", 2);
    append(&request, start, (size_t)start_length);
    for (size_t left = body_bytes - least, part; left > 0; left -= part) {
        part = left < sizeof words - 1 ? left : sizeof words - 1;
        append(&request, words, part);
    }
    append(&request, end, sizeof end - 1);
}

/* --- asking ------------------------------------------------------------------------------ */

static void send_rest(Connection *connection) {
    size_t left = request.length - connection->sent;
    ssize_t sent = send(connection->fd, request.bytes + connection->sent, left, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) die("cannot send to port %lu: %s", port, strerror(errno));
        sent = 0;
    }
    bool first = connection->sent == 0;
    connection->sent += (size_t)sent;
    bool whole = connection->sent == request.length;
    if (first && whole && connection->opened) return; /* as nearly always: nothing to change */
    watch(epoll, EPOLL_CTL_MOD, connection->fd, whole ? EPOLLIN : EPOLLIN | EPOLLOUT, connection);
}

static void ask(Connection *connection) {
    connection->sent = 0;
    connection->part = HEAD;
    connection->asking = true;
    connection->asked_ns = now_ns();
    in_flight++;
    asked++;
    send_rest(connection);
}

static void connect_one(Connection *connection) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0) die("no more sockets: %s", strerror(errno));
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("cannot connect to 127.0.0.1:%lu: %s", port, strerror(errno));
    set_no_delay(connection->fd);
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    watch(epoll, EPOLL_CTL_ADD, connection->fd, EPOLLIN, connection);
    ask(connection);
}

/* --- reading answers --------------------------------------------------------------------- */

static void mark_opened(Connection *connection) {
    if (connection->opened) return;
    connection->opened = true;
    opening--;
    open_count++;
}

/* Finds the stamps in a stream's bytes, wherever they were cut. */
static void read_stamps(Connection *connection, const char *bytes, size_t length, uint64_t now) {
    const char *end = bytes + length;
    while (bytes < end) {
        if (connection->stamp_digits == 0) {
            bytes = memchr(bytes, STAMP_MARK, (size_t)(end - bytes));
            if (bytes++ == NULL) return;
            connection->stamp_digits = 1;
            connection->stamp_us = 0;
        }
        for (; bytes < end && connection->stamp_digits <= STAMP_DIGITS; bytes++) {
            connection->stamp_us = connection->stamp_us * 10 + (uint64_t)(*bytes - '0');
            connection->stamp_digits++;
        }
        if (connection->stamp_digits <= STAMP_DIGITS) return;
        connection->stamp_digits = 0;
        uint64_t sent_ns = connection->stamp_us * 1000;
        record(now > sent_ns ? now - sent_ns : 0);
        mark_opened(connection);
    }
}

/* Takes a line, or as much of it as has come, into `head`; true where it is whole. */
static bool take_line(Connection *connection, const char **at, const char *end) {
    const char *newline = memchr(*at, '\n', (size_t)(end - *at));
    const char *stop = newline == NULL ? end : newline + 1;
    append(&connection->head, *at, (size_t)(stop - *at));
    *at = stop;
    return newline != NULL;
}

static void take_head(Connection *connection, const char **at, const char *end) {
    Buffer *head = &connection->head;
    size_t before = head->length;
    append(head, *at, (size_t)(end - *at));
    size_t length = head_length(head->bytes, head->length);
    *at = end;
    if (length == 0) return;
    *at -= head->length - length;
    if (length < before) die("a head that ends before it began");
    if (head->length < 12 || memcmp(head->bytes + 8, " 200", 4) != 0)
        die("port %lu answered: %.*s", port, (int)(head->length < 800 ? head->length : 800),
            head->bytes);
    const char *encoding = header_value(head->bytes, length, "transfer-encoding");
    connection->left = header_number(head->bytes, length, "content-length", 0);
    connection->part = encoding != NULL ? CHUNK_SIZE : connection->left > 0 ? LENGTH_BODY : WHOLE;
    head->length = 0;
}

static void take_chunk_size(Connection *connection, const char **at, const char *end) {
    if (!take_line(connection, at, end)) return;
    append(&connection->head, "", 1);
    connection->left = strtoull(connection->head.bytes, NULL, 16);
    connection->part = connection->left > 0 ? CHUNK_BYTES : TRAILER;
    connection->head.length = 0;
}

static void take_body(Connection *connection, const char **at, const char *end, uint64_t now) {
    size_t length = (size_t)(end - *at);
    if (length > connection->left) length = (size_t)connection->left;
    if (streams) read_stamps(connection, *at, length, now);
    *at += length;
    connection->left -= length;
    if (connection->left > 0) return;
    connection->part = connection->part == LENGTH_BODY ? WHOLE : CHUNK_END;
}

static void take_line_end(Connection *connection, const char **at, const char *end) {
    if (!take_line(connection, at, end)) return;
    bool empty = connection->head.length <= 2;
    if (connection->part == CHUNK_END) connection->part = CHUNK_SIZE;
    else if (empty) connection->part = WHOLE;
    connection->head.length = 0;
}

static void take(Connection *connection, const char *at, size_t length, uint64_t now) {
    const char *end = at + length;
    while (at < end && connection->part != WHOLE) {
        switch (connection->part) {
            case HEAD: take_head(connection, &at, end); break;
            case CHUNK_SIZE: take_chunk_size(connection, &at, end); break;
            case LENGTH_BODY:
            case CHUNK_BYTES: take_body(connection, &at, end, now); break;
            case CHUNK_END:
            case TRAILER: take_line_end(connection, &at, end); break;
            case WHOLE: break;
        }
    }
    if (at < end) die("port %lu sent %zu bytes after its answer", port, (size_t)(end - at));
}

/* Connects again where a kept connection was closed between two requests. */
static void reconnect(Connection *connection) {
    close(connection->fd);
    if (connection->asking) {
        if (streams || connection->part != HEAD || connection->head.length > 0)
            die("port %lu closed in the middle of an answer", port);
        in_flight--;
        asked--;
    }
    if (connection->opened) open_count--;
    else opening--;
    connection->opened = connection->asking = false;
    opening++;
    connect_one(connection);
}

static void read_answer(Connection *connection) {
    ssize_t length = read(connection->fd, scratch, sizeof scratch);
    if (length < 0 && errno == EAGAIN) return;
    if (length <= 0) {
        reconnect(connection);
        return;
    }
    uint64_t now = now_ns();
    last_progress_ns = now;
    take(connection, scratch, (size_t)length, now);
    if (connection->part != WHOLE) return;
    if (streams) die("a stream ended by itself");
    record(now - connection->asked_ns);
    mark_opened(connection);
    connection->asking = false;
    in_flight--;
    if (rate == 0 && now < stop_ns && asked < most_requests) ask(connection);
}

/* --- phases ------------------------------------------------------------------------------ */

/* Serves sockets once; waits for them no longer than until `due_ns`. */
static void turn(uint64_t due_ns) {
    struct epoll_event events[MOST_EVENTS];
    uint64_t patience_ns = last_progress_ns + STUCK_S * 1000000000ull;
    int ready = wait_until(epoll, events, MOST_EVENTS, due_ns < patience_ns ? due_ns : patience_ns);
    for (int i = 0; i < ready; i++) {
        Connection *connection = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) send_rest(connection);
        if (events[i].events & ~(uint32_t)EPOLLOUT) read_answer(connection);
    }
    if (ready == 0 && now_ns() > patience_ns)
        die("port %lu has not answered for %d s: %zu of %lu open, %zu in flight", port, STUCK_S,
            open_count, connections, in_flight);
}

/* Opens every connection, a few at a time so that no listener's backlog overflows. */
static void open_all(Connection *all) {
    size_t begun = 0;
    while (open_count < connections) {
        for (; begun < connections && opening < MOST_OPENING; begun++, opening++)
            connect_one(&all[begun]);
        turn(NEVER_NS);
    }
}

static void start_counting(double for_s) {
    memset(&seen, 0, sizeof seen);
    asked = 0;
    last_progress_ns = now_ns();
    stop_ns = last_progress_ns + (uint64_t)(for_s * 1e9);
}

/* Evenly until time or requests are up, on the next connection that is free. */
static void ask_evenly(Connection *all) {
    uint64_t gap_ns = (uint64_t)(1e9 / rate), due_ns = now_ns();
    size_t next = 0;
    while (due_ns < stop_ns && asked < most_requests) {
        turn(due_ns);
        for (; due_ns <= now_ns() && due_ns < stop_ns; due_ns += gap_ns)
            for (size_t i = 0; i < connections; i++) {
                next = (next + 1) % connections;
                if (!all[next].opened || all[next].asking) continue;
                ask(&all[next]);
                break;
            }
    }
}

/* Until time or requests are up and every answer has come. */
static void ask_for(Connection *all, double for_s) {
    start_counting(for_s);
    if (rate > 0) ask_evenly(all);
    else for (size_t i = 0; i < connections && asked < most_requests; i++) ask(&all[i]);
    while (in_flight > 0) turn(NEVER_NS);
}

static void listen_for(double for_s) {
    start_counting(for_s);
    while (now_ns() < stop_ns) turn(stop_ns);
}

static void report(const char *phase, double elapsed_s) {
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    printf("{\"phase\": \"%s\", \"open\": %zu, \"count\": %llu, \"elapsed_s\": %.6f, "
           "\"cpu_s\": %.6f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"max_us\": %.2f}\n",
           phase, open_count, (unsigned long long)seen.total, elapsed_s,
           (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9, percentile_us(0.5),
           percentile_us(0.99), (double)seen.largest / 1000);
    fflush(stdout);
}

static void read_options(int count, char **arguments, const char **path, Buffer *headers) {
    for (int i = 3; i < count; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];
        if (value == NULL) die("%s needs a value", name);
        if (strcmp(name, "--connections") == 0) connections = strtoul(value, NULL, 10);
        else if (strcmp(name, "--seconds") == 0) seconds = strtod(value, NULL);
        else if (strcmp(name, "--requests") == 0) most_requests = strtoull(value, NULL, 10);
        else if (strcmp(name, "--warm-up") == 0) warm_up_s = strtod(value, NULL);
        else if (strcmp(name, "--rate") == 0) rate = strtod(value, NULL);
        else if (strcmp(name, "--interval-us") == 0) interval_us = strtoul(value, NULL, 10);
        else if (strcmp(name, "--body-bytes") == 0) body_bytes = strtoul(value, NULL, 10);
        else if (strcmp(name, "--path") == 0) *path = value;
        else if (strcmp(name, "--header") == 0) {
            append(headers, value, strlen(value));
            append(headers, "\r\n", 2);
        } else die("no such option: %s", name);
    }
    if (connections == 0 || port == 0) die("port and --connections must be positive");
}

int main(int count, char **arguments) {
    if (count < 3) die("usage: load closed|streams PORT [options]; load.c's head lists them");
    streams = strcmp(arguments[1], "streams") == 0;
    if (!streams && strcmp(arguments[1], "closed") != 0) die("no such mode: %s", arguments[1]);
    port = strtoul(arguments[2], NULL, 10);
    const char *path = "/v1/chat/completions";
    Buffer headers = {0};
    read_options(count, arguments, &path, &headers);
    build_request(path, &headers);
    raise_limits();
    epoll = epoll_create1(0);
    Connection *all = allocate(NULL, connections * sizeof *all);
    memset(all, 0, connections * sizeof *all);

    start_counting(0);
    open_all(all);
    while (!streams && in_flight > 0) turn(NEVER_NS);
    uint64_t bound = most_requests;
    most_requests = UINT64_MAX;
    if (!streams && warm_up_s > 0) ask_for(all, warm_up_s);
    most_requests = bound;
    report("ready", 0);
    if (getchar() == EOF) return 0;
    uint64_t start = now_ns();
    if (streams) listen_for(seconds);
    else ask_for(all, seconds);
    report("done", (double)(now_ns() - start) / 1e9);
    return 0;
}
