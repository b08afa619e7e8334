/* The lane: small unary requests go from Envoy's threads to the event loop in batches, and replies go back in batches.
 *
 * The file is an HTTP filter of Envoy (a dynamic module, https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/dynamic_modules)
 * that stands before pyvoy's, and a library that `server.py` loads by ctypes in the same process. Python is never called from here, so no thread
 * of Envoy waits for the interpreter's lock. A request takes the lane if its path is in the configuration and if all of it came in
 * one read of its socket; every other request continues to pyvoy's filter, as if this one did not exist.
 *
 * Memory. A Request has up to two owners: Envoy's filter object (from `filter_new` to `filter_destroy`) and whoever answers it (the queue,
 * then the application, then the list of replies, until the reply is sent). `release` frees it when the last owner lets go.
 *   filter, state     : only the thread of Envoy that the stream belongs to
 *   over              : written by that thread under `worker->lock`
 *   scheduler         : others use it only under that lock, and only while not `over`
 *   head, reply       : the owner that answers
 * No lock is held while another one is taken, and none while Envoy is called, but for `scheduler_commit`, which only posts to a queue.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define UNUSED __attribute__((unused))

/* ---- What Envoy's ABI v0.1.0 defines (source/extensions/dynamic_modules/abi/abi.h), as far as it is used here. */
typedef struct { const char *data; size_t size; } Buffer;
typedef struct { const char *name; size_t name_size; const char *value; size_t value_size; } Header;
enum { CONTINUE = 0, STOP = 1, STOP_AND_WATERMARK = 2, STOP_NO_BUFFER = 3 };
enum { REQUEST_HEADERS = 0 };
enum { RECEIVED_REQUEST_BODY = 0, BUFFERED_REQUEST_BODY = 1 };

extern size_t envoy_dynamic_module_callback_http_get_headers_size(void *, int);
extern bool envoy_dynamic_module_callback_http_get_headers(void *, int, Header *);
extern size_t envoy_dynamic_module_callback_http_get_body_chunks_size(void *, int);
extern bool envoy_dynamic_module_callback_http_get_body_chunks(void *, int, Buffer *);
extern void envoy_dynamic_module_callback_http_send_response_headers(void *, Header *, size_t, bool);
extern void envoy_dynamic_module_callback_http_send_response_data(void *, Buffer, bool);
extern void envoy_dynamic_module_callback_http_send_response_trailers(void *, Header *, size_t);
extern void envoy_dynamic_module_callback_http_set_dynamic_metadata_string(void *, Buffer, Buffer, Buffer);
extern void envoy_dynamic_module_callback_http_filter_continue_decoding(void *);
extern void *envoy_dynamic_module_callback_http_filter_scheduler_new(void *);
extern void envoy_dynamic_module_callback_http_filter_scheduler_commit(void *, uint64_t);
extern void envoy_dynamic_module_callback_http_filter_scheduler_delete(void *);

/* ---- Limits. What is larger continues to pyvoy's filter. */
enum { MAX_HEADERS = 64, MAX_HEAD = 16 * 1024, MAX_BODY = 64 * 1024, MAX_CHUNKS = 16, MAX_QUEUED = 64 * 1024 * 1024, MAX_WORKERS = 64, GROUPS = 256 };

/* ---- Requests and replies as `server.py` sees them: these structs, and the bytes behind them. Byte order of the machine. */
typedef struct { uint32_t size, head_size; uint64_t id; double received; uint32_t refused, reserved; } Request_Record;  /* behind: head, body. head: path, then names and values, each ended by 0 */
typedef struct { uint32_t size, head_size, body_size, flags; uint64_t id; } Reply_Record; /* behind: head, body, trailers */

/* A flag of a reply: the application refused the request before it made anything for it. The access log is told by metadata. */
enum { SHED = 1 };

typedef enum { PASSES, ARRIVING, TAKEN } State;
enum { EVENT_WHOLE_YET = 1, EVENT_REPLIES = 2 };

struct Worker;
typedef struct Request {
  struct Request *next;
  struct Worker *worker;
  void *filter;
  void *scheduler;
  atomic_int owners;
  atomic_bool over;     /* its stream has ended */
  State state;
  uint8_t group;        /* of its credential */
  char *record;         /* Request_Record and what is behind it; NULL once the application has it */
  size_t record_size;
  char *reply;          /* Reply_Record and what is behind it */
} Request;

/* One thread of Envoy: the replies for its streams. */
typedef struct Worker {
  pthread_mutex_t lock;
  Request *replies, **replies_end;
  Request *carrier;     /* whose scheduler has an EVENT_REPLIES on its way */
} Worker;

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static Request *queue, **queue_end = &queue;
static size_t queued_bytes;
/* How many wait in the queue, in all and by group of credentials; how many of a group were refused since one of it was queued; how
 * many groups wait. */
static uint32_t waiting, waiting_of[GROUPS], refused_of[GROUPS], groups_waiting;
/* From how many on some are refused, and the headers that say so; where the hash of credentials begins. Set before the first request. */
static uint32_t most_waiting, seed;
static char refusal[MAX_HEAD];
static size_t refusal_size;
static atomic_int event_fd = -1;
static atomic_bool is_open;
static Worker workers[MAX_WORKERS] = {[0 ... MAX_WORKERS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};
static atomic_int worker_count;
static __thread Worker *this_worker;

static double monotonic(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void release(Request *request) {
  if (atomic_fetch_sub(&request->owners, 1) != 1) return;
  free(request->record);
  free(request->reply);
  free(request);
}

/* This thread's; NULL if Envoy has more threads than MAX_WORKERS. */
static Worker *own_worker(void) {
  if (this_worker == NULL) {
    int place = atomic_fetch_add(&worker_count, 1);
    if (place >= MAX_WORKERS) { atomic_fetch_sub(&worker_count, 1); return NULL; }
    this_worker = &workers[place];
    this_worker->replies_end = &this_worker->replies;
  }
  return this_worker;
}

/* ---- Envoy's side: called on the thread of the stream. */

/* The paths, each ended by a line feed. */
typedef struct { size_t size; char text[]; } Paths;

EXPORT const char *envoy_dynamic_module_on_program_init(void) { return "v0.1.0"; }

EXPORT void *envoy_dynamic_module_on_http_filter_config_new(UNUSED void *config, UNUSED Buffer name, Buffer text) {
  Paths *paths = malloc(sizeof *paths + text.size);
  if (paths == NULL) return NULL;
  paths->size = text.size;
  memcpy(paths->text, text.data, text.size);
  return paths;
}
EXPORT void envoy_dynamic_module_on_http_filter_config_destroy(void *paths) { free(paths); }

typedef struct { const Paths *paths; Request *request; bool refused; } Filter;

EXPORT void *envoy_dynamic_module_on_http_filter_new(void *paths, UNUSED void *stream) {
  Filter *filter = malloc(sizeof *filter);
  if (filter != NULL) *filter = (Filter){paths, NULL, false};
  return filter;
}

static bool is_one_of(const Paths *paths, const char *path, size_t size) {
  const char *at = paths->text, *end = paths->text + paths->size;
  while (at < end) {
    const char *line = memchr(at, '\n', (size_t)(end - at));
    if (line == NULL) line = end;
    if ((size_t)(line - at) == size && memcmp(at, path, size) == 0) return true;
    at = line + 1;
  }
  return false;
}

static bool is_named(const Header *header, const char *name) {
  return header->name_size == strlen(name) && memcmp(header->name, name, header->name_size) == 0;
}

static char *append(char *to, const char *data, size_t size) {
  memcpy(to, data, size);
  to[size] = 0;
  return to + size + 1;
}

/* The path, if these are the headers of a request for the lane; else NULL. */
static const Header *lane_path(const Paths *paths, const Header *headers, size_t count, size_t *head_size) {
  const Header *path = NULL, *method = NULL;
  *head_size = 0;
  for (size_t i = 0; i < count; i++) {
    const Header *header = &headers[i];
    if (memchr(header->name, 0, header->name_size) || memchr(header->value, 0, header->value_size)) return NULL;
    if (is_named(header, ":path")) path = header;
    else if (is_named(header, ":method")) method = header;
    *head_size += header->name_size + header->value_size + 2;
  }
  if (*head_size > MAX_HEAD || path == NULL || method == NULL || method->value_size != 4 || memcmp(method->value, "POST", 4) != 0) return NULL;
  return is_one_of(paths, path->value, path->value_size) ? path : NULL;
}

/* A record with its head, of at most that size; NULL if there is no memory. */
static char *record_of(const Header *path, const Header *headers, size_t count, size_t head_size, size_t *record_size) {
  char *record = malloc(sizeof(Request_Record) + head_size);
  if (record == NULL) return NULL;
  char *head = record + sizeof(Request_Record), *at = append(head, path->value, path->value_size);
  for (size_t i = 0; i < count; i++) {
    const Header *header = &headers[i];
    if (header->name_size && header->name[0] == ':') continue;
    at = append(at, header->name, header->name_size);
    at = append(at, header->value, header->value_size);
  }
  *record_size = (size_t)(at - record);
  Request_Record *start = (Request_Record *)record;
  *start = (Request_Record){0, (uint32_t)(at - head), 0, monotonic(), 0, 0};
  return record;
}

static const Header *named(const Header *headers, size_t count, const char *name) {
  for (size_t i = 0; i < count; i++) if (is_named(&headers[i], name)) return &headers[i];
  return NULL;
}

/* The group of a credential. Two that fall into one group share its part of the queue; which ones do differs between processes. */
static uint8_t group_of(const Header *headers, size_t count) {
  const Header *credential = named(headers, count, "authorization");
  if (credential == NULL) credential = named(headers, count, "x-api-key");
  uint32_t hash = seed;
  for (size_t i = 0; credential != NULL && i < credential->value_size; i++) hash = (hash ^ (uint8_t)credential->value[i]) * 16777619u;
  return (uint8_t)(hash ^ hash >> 8 ^ hash >> 16 ^ hash >> 24);
}

/* Reads "name, 0, value, 0, …". False if there are more than MAX_HEADERS. */
static bool parse_headers(const char *at, const char *end, Header *headers, size_t *count) {
  *count = 0;
  while (at < end) {
    if (*count == MAX_HEADERS) return false;
    Header *header = &headers[(*count)++];
    const char *stop = memchr(at, 0, (size_t)(end - at));
    if (stop == NULL) return false;
    header->name = at; header->name_size = (size_t)(stop - at);
    at = stop + 1;
    stop = at < end ? memchr(at, 0, (size_t)(end - at)) : NULL;
    if (stop == NULL) return false;
    header->value = at; header->value_size = (size_t)(stop - at);
    at = stop + 1;
  }
  return true;
}

/* Marks the stream for the access log: what was refused before anything was made for it is many lines alike. */
static void mark_shed(void *stream) {
  envoy_dynamic_module_callback_http_set_dynamic_metadata_string(stream, (Buffer){"headrace", 8}, (Buffer){"shed", 4}, (Buffer){"yes", 3});
}

/* Refuses a gRPC call if many wait and its group has its share of them: the application is behind, so all would be late. */
static bool refuse(void *stream, const Header *headers, size_t count, uint8_t group) {
  pthread_mutex_lock(&queue_lock);
  bool too_many = waiting >= most_waiting && waiting_of[group] * groups_waiting >= most_waiting;
  pthread_mutex_unlock(&queue_lock);
  if (!too_many) return false;
  const Header *type = named(headers, count, "content-type"), *id = named(headers, count, "x-request-id");
  if (type == NULL || type->value_size != 16 || memcmp(type->value, "application/grpc", 16) != 0) return false;
  Header answer[MAX_HEADERS];
  size_t size;
  if (!parse_headers(refusal, refusal + refusal_size, answer, &size) || size == MAX_HEADERS) return false;
  if (id != NULL) answer[size++] = *id;
  pthread_mutex_lock(&queue_lock);
  refused_of[group]++;
  pthread_mutex_unlock(&queue_lock);
  mark_shed(stream);
  envoy_dynamic_module_callback_http_send_response_headers(stream, answer, size, true);
  return true;
}

EXPORT int envoy_dynamic_module_on_http_filter_request_headers(void *stream, void *module, bool end) {
  Filter *filter = module;
  if (end || filter == NULL || !atomic_load(&is_open)) return CONTINUE;
  size_t count = envoy_dynamic_module_callback_http_get_headers_size(stream, REQUEST_HEADERS), head_size, record_size;
  Header headers[MAX_HEADERS];
  if (count > MAX_HEADERS || !envoy_dynamic_module_callback_http_get_headers(stream, REQUEST_HEADERS, headers)) return CONTINUE;
  const Header *path = lane_path(filter->paths, headers, count, &head_size);
  if (path == NULL) return CONTINUE;
  uint8_t group = group_of(headers, count);
  if (refuse(stream, headers, count, group)) {
    filter->refused = true;
    return STOP;
  }
  Worker *worker = own_worker();
  char *record = record_of(path, headers, count, head_size, &record_size);
  Request *request = worker == NULL || record == NULL ? NULL : calloc(1, sizeof *request);
  if (request == NULL) { free(record); return CONTINUE; }
  request->filter = stream;
  request->worker = worker;
  request->record = record;
  request->record_size = record_size;
  request->state = ARRIVING;
  request->group = group;
  atomic_init(&request->owners, 1);
  request->scheduler = envoy_dynamic_module_callback_http_filter_scheduler_new(stream);
  filter->request = request;
  /* Runs when Envoy has read what this socket has now. */
  envoy_dynamic_module_callback_http_filter_scheduler_commit(request->scheduler, EVENT_WHOLE_YET);
  return STOP;
}

/* Appends this part of the body to the record. False if it is too much. */
static bool append_body(void *stream, Request *request, int part) {
  size_t count = envoy_dynamic_module_callback_http_get_body_chunks_size(stream, part), size = 0;
  if (count == 0) return true;
  Buffer chunks[MAX_CHUNKS];
  if (count > MAX_CHUNKS || !envoy_dynamic_module_callback_http_get_body_chunks(stream, part, chunks)) return false;
  for (size_t i = 0; i < count; i++) size += chunks[i].size;
  size_t head_end = sizeof(Request_Record) + ((Request_Record *)request->record)->head_size;
  if (request->record_size - head_end + size > MAX_BODY) return false;
  char *grown = realloc(request->record, request->record_size + size);
  if (grown == NULL) return false;
  request->record = grown;
  for (size_t i = 0; i < count; i++) {
    memcpy(grown + request->record_size, chunks[i].data, chunks[i].size);
    request->record_size += chunks[i].size;
  }
  return true;
}

/* Makes the file descriptor readable that the application's loop looks at. */
static void call_application(void) {
  uint64_t one = 1;
  if (write(atomic_load(&event_fd), &one, sizeof one) < 0) { /* it is readable already */ }
}

/* Hands the whole request to the application. False if too much is waiting already. */
static bool enqueue(Request *request) {
  Request_Record *record = (Request_Record *)request->record;
  record->size = (uint32_t)request->record_size;
  record->id = (uint64_t)(uintptr_t)request;
  request->next = NULL;
  pthread_mutex_lock(&queue_lock);
  bool fits = queued_bytes + request->record_size <= MAX_QUEUED, first = queue == NULL;
  if (fits) {
    atomic_fetch_add(&request->owners, 1);
    request->state = TAKEN;
    *queue_end = request;
    queue_end = &request->next;
    queued_bytes += request->record_size;
    waiting++;
    groups_waiting += waiting_of[request->group]++ == 0;
    record->refused = refused_of[request->group];
    refused_of[request->group] = 0;
  }
  pthread_mutex_unlock(&queue_lock);
  if (fits && first) call_application();
  return fits;
}

EXPORT int envoy_dynamic_module_on_http_filter_request_body(void *stream, void *module, bool end) {
  Filter *filter = module;
  Request *request = filter == NULL ? NULL : filter->request;
  if (filter != NULL && filter->refused) return STOP_NO_BUFFER;
  if (request == NULL || request->state == PASSES) return CONTINUE;
  if (request->state == TAKEN) return STOP_NO_BUFFER;
  if (end && append_body(stream, request, BUFFERED_REQUEST_BODY) && append_body(stream, request, RECEIVED_REQUEST_BODY) && enqueue(request)) {
    return STOP_NO_BUFFER;
  }
  /* EVENT_WHOLE_YET follows. Envoy would refuse what is larger than its buffer if it had to hold it for another status. */
  return STOP_AND_WATERMARK;
}

EXPORT int envoy_dynamic_module_on_http_filter_request_trailers(UNUSED void *stream, void *module) {
  Filter *filter = module;
  Request *request = filter == NULL ? NULL : filter->request;
  return filter != NULL && (filter->refused || (request != NULL && request->state == ARRIVING)) ? STOP : CONTINUE;
}

/* Sends a reply, or 500 if it is malformed. `request->filter` is looked at again after each call: Envoy may end the stream in it. */
static void send_reply(Request *request) {
  const Reply_Record *reply = (const Reply_Record *)request->reply;
  const char *head = request->reply + sizeof *reply, *body = head + reply->head_size, *tail = body + reply->body_size;
  const char *end = request->reply + reply->size;
  Header headers[MAX_HEADERS], trailers[MAX_HEADERS];
  size_t count, trailer_count;
  bool only_headers = reply->body_size == 0 && tail == end;
  if (!parse_headers(head, body, headers, &count) || !parse_headers(tail, end, trailers, &trailer_count)) {
    headers[0] = (Header){":status", 7, "500", 3};
    count = 1;
    only_headers = true;
  }
  if (reply->flags & SHED) mark_shed(request->filter);
  envoy_dynamic_module_callback_http_send_response_headers(request->filter, headers, count, only_headers);
  if (only_headers || request->filter == NULL) return;
  envoy_dynamic_module_callback_http_send_response_data(request->filter, (Buffer){body, reply->body_size}, trailer_count == 0);
  if (trailer_count == 0 || request->filter == NULL) return;
  envoy_dynamic_module_callback_http_send_response_trailers(request->filter, trailers, trailer_count);
}

EXPORT void envoy_dynamic_module_on_http_filter_scheduled(void *stream, void *module, uint64_t event) {
  Filter *filter = module;
  if (event == EVENT_WHOLE_YET) {
    if (filter->request->state != ARRIVING) return;
    filter->request->state = PASSES;
    free(filter->request->record);
    filter->request->record = NULL;
    envoy_dynamic_module_callback_http_filter_continue_decoding(stream);
    return;
  }
  Worker *worker = filter->request->worker;
  pthread_mutex_lock(&worker->lock);
  Request *reply = worker->replies;
  worker->replies = NULL;
  worker->replies_end = &worker->replies;
  worker->carrier = NULL;
  pthread_mutex_unlock(&worker->lock);
  while (reply != NULL) {
    Request *next = reply->next;
    if (reply->filter != NULL) send_reply(reply);
    release(reply);
    reply = next;
  }
}

/* Has Envoy call us for the replies that wait, by the scheduler of the first whose stream lives. `worker->lock` is held. */
static void summon(Worker *worker) {
  if (worker->carrier != NULL) return;
  Request *reply;
  while ((reply = worker->replies) != NULL && atomic_load(&reply->over)) {
    worker->replies = reply->next;
    release(reply);
  }
  worker->carrier = reply;
  if (reply == NULL) worker->replies_end = &worker->replies;
  else envoy_dynamic_module_callback_http_filter_scheduler_commit(reply->scheduler, EVENT_REPLIES);
}

static void end_stream(Request *request) {
  if (request->filter == NULL) return;
  request->filter = NULL;
  pthread_mutex_lock(&request->worker->lock);
  atomic_store(&request->over, true);
  if (request->worker->carrier == request) { /* the event on its way is lost with this stream */
    request->worker->carrier = NULL;
    summon(request->worker);
  }
  pthread_mutex_unlock(&request->worker->lock);
}

EXPORT void envoy_dynamic_module_on_http_filter_stream_complete(UNUSED void *stream, void *module) {
  Filter *filter = module;
  if (filter != NULL && filter->request != NULL) end_stream(filter->request);
}

/* Envoy answers by itself (an idle stream, for example), so the application's reply must not follow. */
EXPORT int envoy_dynamic_module_on_http_filter_local_reply(void *stream, void *module, UNUSED uint32_t code, UNUSED Buffer text, UNUSED bool reset) {
  envoy_dynamic_module_on_http_filter_stream_complete(stream, module);
  return CONTINUE;
}

EXPORT void envoy_dynamic_module_on_http_filter_destroy(void *module) {
  Filter *filter = module;
  if (filter == NULL) return;
  Request *request = filter->request;
  if (request != NULL) {
    end_stream(request);
    envoy_dynamic_module_callback_http_filter_scheduler_delete(request->scheduler);
    release(request);
  }
  free(filter);
}

/* What Envoy asks of every module, and this one has nothing to do in. */
EXPORT int envoy_dynamic_module_on_http_filter_response_headers(UNUSED void *s, UNUSED void *m, UNUSED bool end) { return CONTINUE; }
EXPORT int envoy_dynamic_module_on_http_filter_response_body(UNUSED void *s, UNUSED void *m, UNUSED bool end) { return CONTINUE; }
EXPORT int envoy_dynamic_module_on_http_filter_response_trailers(UNUSED void *s, UNUSED void *m) { return CONTINUE; }
EXPORT void *envoy_dynamic_module_on_http_filter_per_route_config_new(UNUSED void *c, UNUSED Buffer n, UNUSED Buffer t) { return &is_open; }
EXPORT void envoy_dynamic_module_on_http_filter_per_route_config_destroy(UNUSED void *c) {}
#define NOTHING(name) EXPORT void envoy_dynamic_module_on_http_filter_##name(void) {}
NOTHING(downstream_above_write_buffer_high_watermark)
NOTHING(downstream_below_write_buffer_low_watermark)
NOTHING(http_callout_done)
NOTHING(http_stream_headers)
NOTHING(http_stream_data)
NOTHING(http_stream_trailers)
NOTHING(http_stream_complete)
NOTHING(http_stream_reset)
NOTHING(config_scheduled)
NOTHING(config_http_callout_done)
NOTHING(config_http_stream_headers)
NOTHING(config_http_stream_data)
NOTHING(config_http_stream_trailers)
NOTHING(config_http_stream_complete)
NOTHING(config_http_stream_reset)

/* ---- The application's side: called by `server.py` on the thread of its event loop. */

/* From now on requests take the lane. Returns a file descriptor that is readable when some wait; -1 if there is none. While `most` wait,
 * further gRPC calls of those of whom most wait are answered with `headers` (names and values, each ended by 0). */
EXPORT int lane_open(uint32_t most, const char *headers, size_t size) {
  if (atomic_load(&event_fd) < 0) {
    most_waiting = most;
    seed = 2166136261u ^ (uint32_t)getpid();
    refusal_size = size <= sizeof refusal ? size : 0;
    memcpy(refusal, headers, refusal_size);
    atomic_store(&event_fd, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  }
  atomic_store(&is_open, atomic_load(&event_fd) >= 0);
  return atomic_load(&event_fd);
}

/* From now on requests continue to pyvoy's filter. Those that wait are still taken and answered. */
EXPORT void lane_close(void) { atomic_store(&is_open, false); }

/* Copies the records of requests that wait to `out`, as many as fit and at most `most`, and returns the bytes. 0: none wait.
 * Each id must be given back once: by a reply to `lane_send`. Requests whose callers have gone are left out. While others wait, the
 * file descriptor stays readable. */
EXPORT size_t lane_take(char *out, size_t room, size_t most) {
  uint64_t seen;
  if (read(atomic_load(&event_fd), &seen, sizeof seen) < 0) { /* it was not set */ }
  Request *taken = NULL, **taken_end = &taken;
  size_t size = 0;
  pthread_mutex_lock(&queue_lock);
  while (queue != NULL && most > 0 && size + queue->record_size <= room) {
    Request *request = queue;
    queue = request->next;
    queued_bytes -= request->record_size;
    waiting--;
    groups_waiting -= --waiting_of[request->group] == 0;
    if (atomic_load(&request->over)) request->record_size = 0;
    else most--;
    size += request->record_size;
    request->next = NULL;
    *taken_end = request;
    taken_end = &request->next;
  }
  if (queue == NULL) queue_end = &queue;
  bool more = queue != NULL;
  pthread_mutex_unlock(&queue_lock);
  if (more) call_application();
  char *at = out;
  while (taken != NULL) {
    Request *request = taken;
    taken = request->next;
    if (request->record_size == 0) { release(request); continue; }
    memcpy(at, request->record, request->record_size);
    at += request->record_size;
    free(request->record);
    request->record = NULL;
  }
  return (size_t)(at - out);
}

/* Whether the caller of a request that was taken and not yet answered has gone. */
EXPORT bool lane_gone(uint64_t id) { return atomic_load(&((Request *)(uintptr_t)id)->over); }

/* Sends replies: `size` bytes of Reply_Records. Each ends the application's right to its id. Returns the bytes that were understood. */
EXPORT size_t lane_send(const char *records, size_t size) {
  size_t at = 0;
  while (size - at >= sizeof(Reply_Record)) {
    Reply_Record start;
    memcpy(&start, records + at, sizeof start);
    if (start.size < sizeof start || start.size > size - at || (uint64_t)start.head_size + start.body_size > start.size - sizeof start) break;
    Request *request = (Request *)(uintptr_t)start.id;
    request->reply = malloc(start.size);
    if (request->reply == NULL) break;
    memcpy(request->reply, records + at, start.size);
    at += start.size;
    request->next = NULL;
    Worker *worker = request->worker;
    pthread_mutex_lock(&worker->lock);
    bool over = atomic_load(&request->over);
    if (!over) {
      *worker->replies_end = request;
      worker->replies_end = &request->next;
    }
    pthread_mutex_unlock(&worker->lock);
    if (over) release(request);
  }
  int count = atomic_load(&worker_count);
  for (int i = 0; i < count && i < MAX_WORKERS; i++) {
    pthread_mutex_lock(&workers[i].lock);
    summon(&workers[i]);
    pthread_mutex_unlock(&workers[i].lock);
  }
  return at;
}
