/* An engine that costs next to nothing: fixed answers and paced streams, one thread, one epoll.
 *
 * POST any path   a chat completion of fixed size; a paced event stream in chunked encoding where
 *                 the body has "stream": true. Pace from the request headers X-Mock-Events and
 *                 X-Mock-Interval-Us, or from the body's fields mock_events and mock_interval_us,
 *                 which also pass proxies that drop headers they do not know.
 * GET             /health, /version, /v1/models and /metrics, as far as a router asks for them.
 *
 * Usage: mock_engine PORT      (0: any free port; the first line of output names it)
 */
#include "harness.h"

#define DEFAULT_EVENTS 64
#define DEFAULT_INTERVAL_US 10000
#define SCRATCH_BYTES (1 << 20)
#define MOST_EVENTS 512
#define FULL_WAIT_NS 1000000 /* before a socket that was full is tried again */
#define UNPACED_NS 1000      /* between events without a pace, so that others have their turn */

typedef struct {
    int fd;
    bool closing;         /* after the answer that is on its way */
    bool wants_room;      /* epoll also tells when more can be written */
    size_t heap_index;    /* 1-based; 0 while it does not stream */
    unsigned long events_left;
    uint64_t interval_ns, due_ns;
    Buffer in, out;       /* what is not whole; what the socket had no room for */
} Connection;

static int epoll;
static char scratch[SCRATCH_BYTES];
static Connection **heap; /* streams by due_ns, 1-based */
static size_t streaming, heap_capacity, opened_streams;

static const char completion[] =
    "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mock\","
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The answer of a mock "
    "engine is always the same.\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":10,\"total_tokens\":22}}";
static const char stream_head[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
static const char stream_tail[] =
    "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
    "\"model\":\"mock\",\"choices\":[],"
    "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":64,\"total_tokens\":76}}\n\n"
    "data: [DONE]\n\n";
static char answer[512];
static size_t answer_length;
static char event[512]; /* one event in its chunk; only the stamp differs */
static size_t event_length, stamp_at;

/* --- the heap of streams ----------------------------------------------------------------- */

static void place(size_t index, Connection *connection) {
    heap[index] = connection;
    connection->heap_index = index;
}

static void sift(size_t index) {
    Connection *moved = heap[index];
    for (; index > 1 && heap[index / 2]->due_ns > moved->due_ns; index /= 2)
        place(index, heap[index / 2]);
    for (size_t child; (child = 2 * index) <= streaming; index = child) {
        if (child < streaming && heap[child + 1]->due_ns < heap[child]->due_ns) child++;
        if (heap[child]->due_ns >= moved->due_ns) break;
        place(index, heap[child]);
    }
    place(index, moved);
}

static void start_pacing(Connection *connection) {
    if (++streaming >= heap_capacity) {
        heap_capacity = 2 * streaming + 64;
        heap = allocate(heap, heap_capacity * sizeof *heap);
    }
    place(streaming, connection);
    sift(streaming);
}

static void stop_pacing(Connection *connection) {
    size_t index = connection->heap_index;
    if (index == 0) return;
    connection->heap_index = 0;
    Connection *last = heap[streaming--];
    if (last == connection) return;
    place(index, last);
    sift(index);
}

/* --- writing ----------------------------------------------------------------------------- */

static void close_connection(Connection *connection) {
    stop_pacing(connection);
    close(connection->fd);
    free(connection->in.bytes);
    free(connection->out.bytes);
    free(connection);
}

static void ask_for_room(Connection *connection, bool wanted) {
    if (connection->wants_room == wanted) return;
    connection->wants_room = wanted;
    watch(epoll, EPOLL_CTL_MOD, connection->fd, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN, connection);
}

/* Writes what the socket takes and keeps the rest. A broken socket is noticed when it is read. */
static void write_out(Connection *connection, const char *bytes, size_t length) {
    ssize_t written = 0;
    if (connection->out.length == 0) written = send(connection->fd, bytes, length, MSG_NOSIGNAL);
    if (written < 0) {
        if (errno != EAGAIN) return;
        written = 0;
    }
    if ((size_t)written == length) return;
    append(&connection->out, bytes + written, length - (size_t)written);
    ask_for_room(connection, true);
}

static void write_kept(Connection *connection) {
    Buffer *out = &connection->out;
    ssize_t written = send(connection->fd, out->bytes, out->length, MSG_NOSIGNAL);
    if (written > 0) drop_front(out, (size_t)written);
    if (out->length == 0) ask_for_room(connection, false);
}

static void prepare_answers(void) {
    answer_length = (size_t)snprintf(
        answer, sizeof answer,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
        sizeof completion - 1, completion);
    char data[400];
    int length = snprintf(
        data, sizeof data,
        "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
        "\"model\":\"mock\",\"system_fingerprint\":\"%c%0*d\",\"choices\":[{\"index\":0,"
        "\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}\n\n",
        STAMP_MARK, STAMP_DIGITS, 0);
    event_length = (size_t)snprintf(event, sizeof event, "%x\r\n%s\r\n", length, data);
    stamp_at = (size_t)(strchr(event, STAMP_MARK) - event) + 1;
}

static void stamp_event(void) {
    uint64_t now_us = now_ns() / 1000;
    for (size_t digit = STAMP_DIGITS; digit-- > 0; now_us /= 10)
        event[stamp_at + digit] = (char)('0' + now_us % 10);
}

static void write_stream_end(Connection *connection) {
    char end[sizeof stream_tail + 32];
    int length = snprintf(
        end, sizeof end, "%zx\r\n%s\r\n0\r\n\r\n", sizeof stream_tail - 1, stream_tail);
    write_out(connection, end, (size_t)length);
}

/* --- reading ----------------------------------------------------------------------------- */

/* A field of the body's JSON, found by its quoted name; NULL where there is none. */
static const char *body_field(const char *body, size_t length, const char *quoted_name) {
    size_t name_length = strlen(quoted_name);
    const char *end = body + length;
    for (const char *at = body; (at = memchr(at, '"', (size_t)(end - at))) != NULL; at++) {
        if ((size_t)(end - at) > name_length && memcmp(at, quoted_name, name_length) == 0) {
            for (at += name_length; at < end && (*at == ':' || *at == ' ');) at++;
            return at;
        }
    }
    return NULL;
}

static unsigned long pace(const char *request, size_t head, size_t body, const char *header,
                          const char *field, unsigned long otherwise) {
    const char *value = body_field(request + head, body, field);
    if (value != NULL) otherwise = strtoul(value, NULL, 10);
    return header_number(request, head, header, otherwise);
}

static void start_stream(Connection *connection, const char *request, size_t head, size_t body) {
    connection->events_left =
        pace(request, head, body, "x-mock-events", "\"mock_events\"", DEFAULT_EVENTS);
    connection->interval_ns = 1000 * pace(request, head, body, "x-mock-interval-us",
                                          "\"mock_interval_us\"", DEFAULT_INTERVAL_US);
    /* Streams that begin together do not beat together: phases follow the golden ratio. */
    uint64_t phase = (opened_streams++ * 618034u) % 1000000u;
    connection->due_ns = now_ns() + connection->interval_ns / 1000000u * phase;
    char first[sizeof stream_head + sizeof event];
    stamp_event();
    memcpy(first, stream_head, sizeof stream_head - 1);
    memcpy(first + sizeof stream_head - 1, event, event_length);
    write_out(connection, first, sizeof stream_head - 1 + event_length);
    if (connection->events_left > 0) connection->events_left--;
    start_pacing(connection);
}

static void answer_get(Connection *connection, const char *path) {
    char body[1024] = "{}", whole[1280];
    const char *status = "200 OK", *type = "application/json";
    if (strncmp(path, "/metrics ", 9) == 0) {
        type = "text/plain; version=0.0.4";
        /* The counter follows the clock, so that slow streams do not look like a hung engine. */
        snprintf(body, sizeof body,
                 "# TYPE vllm:num_requests_running gauge\n"
                 "vllm:num_requests_running{model_name=\"mock\"} %zu\n"
                 "# TYPE vllm:num_requests_waiting gauge\n"
                 "vllm:num_requests_waiting{model_name=\"mock\"} 0\n"
                 "# TYPE vllm:kv_cache_usage_perc gauge\n"
                 "vllm:kv_cache_usage_perc{model_name=\"mock\"} 0.01\n"
                 "# TYPE vllm:generation_tokens_total counter\n"
                 "vllm:generation_tokens_total{model_name=\"mock\"} %llu\n",
                 streaming, (unsigned long long)(now_ns() / 1000000u));
    } else if (strncmp(path, "/v1/models ", 11) == 0) {
        strcpy(body, "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\","
                     "\"created\":1700000000,\"owned_by\":\"mock\",\"root\":\"mock\","
                     "\"parent\":null,\"max_model_len\":1000000}]}");
    } else if (strncmp(path, "/version ", 9) == 0) {
        strcpy(body, "{\"version\":\"mock\"}");
    } else if (strncmp(path, "/health ", 8) != 0) {
        status = "404 Not Found";
        strcpy(body, "{\"error\":{\"message\":\"the mock engine has no such path\"}}");
    }
    int length = snprintf(whole, sizeof whole,
                          "HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n%s",
                          status, type, strlen(body), body);
    write_out(connection, whole, (size_t)length);
}

/* Answers one request where it is whole; returns how many bytes it was, 0 where it is not. */
static size_t answer_one(Connection *connection, const char *bytes, size_t length) {
    size_t head = head_length(bytes, length);
    if (head == 0) return 0;
    if (header_value(bytes, head, "transfer-encoding") != NULL) {
        static const char refusal[] =
            "HTTP/1.1 411 Length Required\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        write_out(connection, refusal, sizeof refusal - 1);
        connection->closing = true;
        return length;
    }
    size_t body = header_number(bytes, head, "content-length", 0);
    if (length < head + body) return 0;
    const char *persistence = header_value(bytes, head, "connection");
    if (persistence != NULL && strncasecmp(persistence, "close", 5) == 0) connection->closing = true;
    if (strncmp(bytes, "POST ", 5) != 0) {
        const char *path = memchr(bytes, ' ', head);
        answer_get(connection, path == NULL ? "" : path + 1);
        return head + body;
    }
    const char *wants_stream = body_field(bytes + head, body, "\"stream\"");
    if (wants_stream != NULL && strncmp(wants_stream, "true", 4) == 0)
        start_stream(connection, bytes, head, body);
    else
        write_out(connection, answer, answer_length);
    return head + body;
}

/* Answers what is whole, one after the other; a stream holds up what came after it. */
static void answer_kept(Connection *connection) {
    size_t used;
    while (connection->in.length > 0 && connection->heap_index == 0 && !connection->closing) {
        used = answer_one(connection, connection->in.bytes, connection->in.length);
        if (used == 0) return;
        drop_front(&connection->in, used);
    }
}

/* Returns false where the other side is gone. */
static bool read_in(Connection *connection) {
    ssize_t length = read(connection->fd, scratch, sizeof scratch);
    if (length == 0 || (length < 0 && errno != EAGAIN)) return false;
    if (length < 0) return true;
    size_t used = 0;
    if (connection->in.length == 0 && connection->heap_index == 0)
        used = answer_one(connection, scratch, (size_t)length);
    if (used < (size_t)length) append(&connection->in, scratch + used, (size_t)length - used);
    answer_kept(connection);
    return true;
}

/* --- the loop ---------------------------------------------------------------------------- */

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        set_no_delay(fd);
        Connection *connection = allocate(NULL, sizeof *connection);
        *connection = (Connection){.fd = fd};
        watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, connection);
    }
}

static void close_if_done(Connection *connection) {
    bool done = connection->closing && connection->heap_index == 0 && connection->out.length == 0;
    if (done) close_connection(connection);
}

static uint64_t at_least(uint64_t least, uint64_t value) { return value > least ? value : least; }

/* Sends every event that is due. One that finds the socket full waits for its next turn. */
static void send_due(void) {
    uint64_t now = now_ns();
    while (streaming > 0 && heap[1]->due_ns <= now) {
        Connection *connection = heap[1];
        if (connection->out.length == 0 && connection->events_left > 0) {
            stamp_event();
            write_out(connection, event, event_length);
            connection->events_left--;
        } else if (connection->out.length == 0) {
            stop_pacing(connection);
            write_stream_end(connection);
            answer_kept(connection);
            close_if_done(connection);
            continue;
        }
        if (connection->out.length > 0)
            connection->due_ns = now + at_least(FULL_WAIT_NS, connection->interval_ns);
        else
            connection->due_ns += at_least(UNPACED_NS, connection->interval_ns);
        sift(1);
    }
}

static int listen_on(unsigned long port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096))
        die("cannot listen on 127.0.0.1:%lu: %s", port, strerror(errno));
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("{\"port\": %u}\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int count, char **arguments) {
    if (count != 2) die("usage: mock_engine PORT (0: any free port)");
    raise_limits();
    prepare_answers();
    epoll = epoll_create1(0);
    int listener = listen_on(strtoul(arguments[1], NULL, 10));
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    struct epoll_event events[MOST_EVENTS];
    for (;;) {
        uint64_t due = streaming > 0 ? heap[1]->due_ns : NEVER_NS;
        int ready = wait_until(epoll, events, MOST_EVENTS, due);
        for (int i = 0; i < ready; i++) {
            Connection *connection = events[i].data.ptr;
            if (connection == NULL) {
                accept_all(listener);
                continue;
            }
            if (events[i].events & EPOLLOUT) write_kept(connection);
            if ((events[i].events & ~(uint32_t)EPOLLOUT) && !read_in(connection))
                close_connection(connection);
            else
                close_if_done(connection);
        }
        send_due();
    }
}
