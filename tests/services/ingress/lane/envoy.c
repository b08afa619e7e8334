/* A fake Envoy: as much of it as lane.c uses, and stricter. `traffic.c` plays random traffic with it, `fake_envoy.py` loads it.
 *
 * One Envoy is one thread: its streams, and the events that were posted to it. As in the real one an event whose stream has ended is lost,
 * and a stream may end within a call that sends something.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const char *data; size_t size; } Buffer;
typedef struct { const char *name; size_t name_size; const char *value; size_t value_size; } Header;
enum { CONTINUE = 0, STOP = 1, STOP_AND_WATERMARK = 2, STOP_NO_BUFFER = 3 };
enum { SLOTS = 2048, MOST_PIECES = 64 };

extern const char *envoy_dynamic_module_on_program_init(void);
extern void *envoy_dynamic_module_on_http_filter_config_new(void *, Buffer, Buffer);
extern void envoy_dynamic_module_on_http_filter_config_destroy(void *);
extern void *envoy_dynamic_module_on_http_filter_new(void *, void *);
extern int envoy_dynamic_module_on_http_filter_request_headers(void *, void *, bool);
extern int envoy_dynamic_module_on_http_filter_request_body(void *, void *, bool);
extern int envoy_dynamic_module_on_http_filter_request_trailers(void *, void *);
extern int envoy_dynamic_module_on_http_filter_local_reply(void *, void *, uint32_t, Buffer, bool);
extern void envoy_dynamic_module_on_http_filter_scheduled(void *, void *, uint64_t);
extern void envoy_dynamic_module_on_http_filter_stream_complete(void *, void *);
extern void envoy_dynamic_module_on_http_filter_destroy(void *);

typedef struct Event { struct Event *next; uint64_t stream, event; } Event;
struct Stream;
typedef struct Envoy {
  pthread_mutex_t lock;
  Event *events, **events_end;
  struct Stream *streams[SLOTS];
  void *config;
} Envoy;
typedef struct { Envoy *envoy; uint64_t stream; } Scheduler;

/* ANSWERED: Envoy has answered by itself. SENT: the lane's reply is complete. */
typedef enum { OPEN, HEADERS_SENT, BODY_SENT, SENT, ANSWERED } Sent;
typedef struct Stream {
  Envoy *envoy;
  uint64_t number;      /* its slot is this modulo SLOTS */
  void *module;
  const Header *headers;
  size_t header_count;
  Buffer buffered[MOST_PIECES], received[MOST_PIECES];
  size_t buffered_count, received_count;
  bool continued;       /* the lane has let it go on */
  bool ends;            /* its last part has come */
  Sent sent;
  char *reply;          /* headers, body, trailers: name, 0, value, 0, … */
  size_t sizes[3];
  void *model;          /* what traffic.c knows of it */
} Stream;

/* Called when something was sent, and when decoding continues; it may end the stream. */
static void (*after_send)(Stream *), (*after_continue)(Stream *);

#define CHECK(condition, ...) do { if (!(condition)) { fprintf(stderr, __VA_ARGS__); fprintf(stderr, " (%s:%d)\n", __FILE__, __LINE__); abort(); } } while (0)

Envoy *envoy_new(const char *paths) {
  Envoy *envoy = calloc(1, sizeof *envoy);
  pthread_mutex_init(&envoy->lock, NULL);
  envoy->events_end = &envoy->events;
  envoy->config = envoy_dynamic_module_on_http_filter_config_new(NULL, (Buffer){"lane", 4}, (Buffer){paths, strlen(paths)});
  return envoy;
}

Stream *envoy_stream(Envoy *envoy, uint64_t number) {
  Stream *stream = envoy->streams[number % SLOTS];
  return stream != NULL && stream->number == number ? stream : NULL;
}

/* A stream whose headers have come. They must stay where they are until it ends. */
int envoy_headers(Envoy *envoy, uint64_t number, const Header *headers, size_t count, bool end) {
  Stream *stream = calloc(1, sizeof *stream);
  stream->envoy = envoy;
  stream->number = number;
  stream->headers = headers;
  stream->header_count = count;
  stream->ends = end;
  CHECK(envoy->streams[number % SLOTS] == NULL, "the slot of %lu is in use", number);
  envoy->streams[number % SLOTS] = stream;
  stream->module = envoy_dynamic_module_on_http_filter_new(envoy->config, stream);
  int status = envoy_dynamic_module_on_http_filter_request_headers(stream, stream->module, end);
  CHECK(status == CONTINUE || status == STOP, "headers: status %d", status);
  stream->continued = status == CONTINUE;
  return status;
}

/* The next pieces of a body. They must stay where they are until it ends. */
int envoy_body(Stream *stream, const Buffer *pieces, size_t count, bool end) {
  memcpy(stream->received, pieces, count * sizeof *pieces);
  stream->received_count = count;
  stream->ends = end;
  int status = envoy_dynamic_module_on_http_filter_request_body(stream, stream->module, end);
  CHECK(stream->continued == (status == CONTINUE), "body: status %d of a stream that %s", status, stream->continued ? "continues" : "waits");
  if (status == STOP_AND_WATERMARK && stream->buffered_count + count <= MOST_PIECES) {
    memcpy(stream->buffered + stream->buffered_count, pieces, count * sizeof *pieces);
    stream->buffered_count += count;
  }
  stream->received_count = 0;
  return status;
}

void envoy_end(Stream *stream, bool completed) {
  if (completed) envoy_dynamic_module_on_http_filter_stream_complete(stream, stream->module);
  stream->envoy->streams[stream->number % SLOTS] = NULL;
  envoy_dynamic_module_on_http_filter_destroy(stream->module);
  free(stream->reply);
  free(stream);
}

/* Runs the oldest event. False if there is none. */
bool envoy_run(Envoy *envoy) {
  pthread_mutex_lock(&envoy->lock);
  Event *event = envoy->events;
  if (event != NULL && (envoy->events = event->next) == NULL) envoy->events_end = &envoy->events;
  pthread_mutex_unlock(&envoy->lock);
  if (event == NULL) return false;
  Stream *stream = envoy_stream(envoy, event->stream);
  if (stream != NULL) envoy_dynamic_module_on_http_filter_scheduled(stream, stream->module, event->event);
  free(event);
  return true;
}

/* What the lane has sent, `sizes`: of headers, body and trailers. NULL if it is not complete. */
const char *envoy_reply(Stream *stream, size_t *sizes) {
  memcpy(sizes, stream->sizes, sizeof stream->sizes);
  return stream->sent == SENT ? stream->reply : NULL;
}

/* ---- What the lane calls. */

size_t envoy_dynamic_module_callback_http_get_headers_size(Stream *stream, int kind) { return kind == 0 ? stream->header_count : 0; }
bool envoy_dynamic_module_callback_http_get_headers(Stream *stream, int kind, Header *headers) {
  memcpy(headers, stream->headers, stream->header_count * sizeof *headers);
  return kind == 0;
}
size_t envoy_dynamic_module_callback_http_get_body_chunks_size(Stream *stream, int part) {
  return part == 0 ? stream->received_count : stream->buffered_count;
}
bool envoy_dynamic_module_callback_http_get_body_chunks(Stream *stream, int part, Buffer *chunks) {
  memcpy(chunks, part == 0 ? stream->received : stream->buffered, (part == 0 ? stream->received_count : stream->buffered_count) * sizeof *chunks);
  return true;
}

static void append(Stream *stream, int part, const char *data, size_t size) {
  size_t before = stream->sizes[0] + stream->sizes[1] + stream->sizes[2];
  stream->reply = realloc(stream->reply, before + size + 1);
  memcpy(stream->reply + before, data, size);
  stream->sizes[part] += size;
}
static void append_headers(Stream *stream, int part, const Header *headers, size_t count) {
  for (size_t i = 0; i < count; i++) {
    append(stream, part, headers[i].name, headers[i].name_size);
    append(stream, part, "", 1);
    append(stream, part, headers[i].value, headers[i].value_size);
    append(stream, part, "", 1);
  }
}
static void sent(Stream *stream, Sent from, Sent to) {
  CHECK(envoy_stream(stream->envoy, stream->number) == stream, "something is sent to a stream that has ended");
  CHECK(stream->sent == from, "stream %lu: sends in state %d, not %d", stream->number, stream->sent, from);
  stream->sent = to;
  if (after_send != NULL) after_send(stream);
}
void envoy_dynamic_module_callback_http_send_response_headers(Stream *stream, Header *headers, size_t count, bool end) {
  append_headers(stream, 0, headers, count);
  sent(stream, OPEN, end ? SENT : HEADERS_SENT);
}
void envoy_dynamic_module_callback_http_send_response_data(Stream *stream, Buffer data, bool end) {
  append(stream, 1, data.data, data.size);
  sent(stream, HEADERS_SENT, end ? SENT : BODY_SENT);
}
void envoy_dynamic_module_callback_http_send_response_trailers(Stream *stream, Header *headers, size_t count) {
  append_headers(stream, 2, headers, count);
  sent(stream, BODY_SENT, SENT);
}
void envoy_dynamic_module_callback_http_set_dynamic_metadata_string(Stream *stream, Buffer space, Buffer key, Buffer value) {
  (void)stream, (void)space, (void)key, (void)value;
}

void envoy_dynamic_module_callback_http_filter_continue_decoding(Stream *stream) {
  CHECK(!stream->continued, "stream %lu continues twice", stream->number);
  stream->continued = true;
  if (after_continue != NULL) after_continue(stream);
}

void *envoy_dynamic_module_callback_http_filter_scheduler_new(Stream *stream) {
  Scheduler *scheduler = malloc(sizeof *scheduler);
  *scheduler = (Scheduler){stream->envoy, stream->number};
  return scheduler;
}
void envoy_dynamic_module_callback_http_filter_scheduler_delete(Scheduler *scheduler) { free(scheduler); }
/* Any thread. */
void envoy_dynamic_module_callback_http_filter_scheduler_commit(Scheduler *scheduler, uint64_t number) {
  Event *event = malloc(sizeof *event);
  *event = (Event){NULL, scheduler->stream, number};
  pthread_mutex_lock(&scheduler->envoy->lock);
  *scheduler->envoy->events_end = event;
  scheduler->envoy->events_end = &event->next;
  pthread_mutex_unlock(&scheduler->envoy->lock);
}
