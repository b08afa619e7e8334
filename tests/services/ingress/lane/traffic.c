/* Random and mutated traffic by a seed, through the fake Envoy, lane.c and an application: `traffic SEED MESSAGES THREADS`.
 *
 * Each Envoy is a thread, and the application is another one; allocations fail at random. A message, and the reply to it, follow from the
 * number of its stream: the application computes again what was sent, and the stream what must be answered.
 */
#include "envoy.c"
#include <poll.h>
#include <sanitizer/asan_interface.h>
#include <stdatomic.h>
#include <unistd.h>

enum { LIVE = 64, MAX_HEADERS = 64, MAX_HEAD = 16 * 1024, MAX_BODY = 64 * 1024, ROOM = 1024 * 1024, HELD = 64 * 1024 };
typedef struct { uint32_t size, head_size; uint64_t id; double received; uint32_t refused, reserved; } Request_Record;
typedef struct { uint32_t size, head_size, body_size, reserved; uint64_t id; } Reply_Record;
extern int lane_open(uint32_t, const char *, size_t);
extern size_t lane_take(char *, size_t, size_t);
extern bool lane_gone(uint64_t);
extern size_t lane_send(const char *, size_t);

/* lane.c is compiled with these names. */
static atomic_long allocated;
static __thread uint64_t allocations, failures;
static bool fails(void) { return ++allocations % 997 == 0 && ++failures; }
void *lane_malloc(size_t size) { return fails() ? NULL : (atomic_fetch_add(&allocated, 1), malloc(size)); }
void *lane_calloc(size_t count, size_t size) { return fails() ? NULL : (atomic_fetch_add(&allocated, 1), calloc(count, size)); }
void *lane_realloc(void *old, size_t size) { return fails() ? NULL : realloc(old, size); }
void lane_free(void *old) { if (old != NULL) allocated--; free(old); }

static const char *const A = "/inference.GRPCInferenceService/ModelInfer", *const B = "/b/B";
static const char PATHS[] = "/inference.GRPCInferenceService/ModelInfer\n/b/B\n";
static uint64_t seed;
static char pool[4 * MAX_BODY];

static uint64_t below(uint64_t *random, uint64_t limit) {
  *random ^= *random >> 12; *random ^= *random << 25; *random ^= *random >> 27;
  return (*random * 0x2545F4914F6CDD1DULL >> 33) % limit;
}
static uint64_t random_of(uint64_t number) { return ((seed + 1) * 0x9E3779B97F4A7C15ULL ^ (number + 1) * 0xBF58476D1CE4E5B9ULL) | 1; }

/* ---- A message. Bytes around each string are poisoned: who reads one too many is found. */
typedef struct { Header headers[MAX_HEADERS + 16]; size_t count, size, used; const char *body; bool end, trailers, never_ends; char arena[32 * 1024]; } Message;

static const char *put(Message *message, const char *data, size_t size) {
  char *at = message->arena + message->used;
  message->used += size / 8 * 8 + 16;
  ASAN_UNPOISON_MEMORY_REGION(at, size);
  memcpy(at, data, size);
  ASAN_POISON_MEMORY_REGION(at + size, (size_t)(message->arena + message->used - at) - size);
  return at;
}
static void add(Message *message, const char *name, size_t name_size, const char *value, size_t value_size) {
  message->headers[message->count++] = (Header){put(message, name, name_size), name_size, put(message, value, value_size), value_size};
}
static void make(uint64_t number, Message *message) {
  uint64_t random = random_of(number), kind = below(&random, 64);
  char text[32];
  message->count = message->used = 0;
  ASAN_UNPOISON_MEMORY_REGION(message->arena, sizeof message->arena);
  const char *path = below(&random, 2) ? A : B;
  if (kind == 0) path = (const char *[]){"", "/b/B\n", "/b/BB", "/b", "/b/B\n/b/B", "/inference.GRPCInferenceService/ModelInfe"}[below(&random, 6)];
  if (kind != 1) add(message, ":path", 5, path, strlen(path));
  const char *method = kind == 2 ? (const char *[]){"GET", "POS", "POSTS", "post", ""}[below(&random, 5)] : "POST";
  if (kind != 3) add(message, ":method", 7, method, strlen(method));
  add(message, "number", 6, text, (size_t)sprintf(text, "%lu", number));
  size_t count = kind == 4 ? MAX_HEADERS - 5 + below(&random, 6) : below(&random, 10);
  for (size_t i = 0; i < count; i++) {
    size_t value_size = below(&random, 40);
    add(message, "content-type-of-a" + below(&random, 17), below(&random, 2), pool + below(&random, MAX_BODY), value_size);
  }
  if (kind == 5) add(message, "large", 5, pool, MAX_HEAD - 800 + below(&random, 1600));
  for (size_t i = 3; i < message->count; i++) { /* only those of kind 6 have a 0 */
    char *value = (char *)message->headers[i].value;
    for (size_t j = 0; j < message->headers[i].value_size; j++) if (value[j] == 0) value[j] = ' ';
  }
  if (kind >= 6 && kind < 10) { /* mutated: not the header `number` */
    Header *header = &message->headers[below(&random, message->count)];
    if (header->name_size != 6 || memcmp(header->name, "number", 6)) {
      bool of_name = header->name_size && below(&random, 2);
      char *at = (char *)(of_name ? header->name : header->value);
      size_t size = of_name ? header->name_size : header->value_size;
      if (size) at[below(&random, size)] = (char)(kind == 6 ? 0 : below(&random, 256));
    }
  }
  message->end = kind == 10;
  message->trailers = kind == 11;
  message->never_ends = kind == 12 || kind == 13;
  message->size = kind == 14 ? MAX_BODY - 50 + below(&random, 100) : kind == 15 ? below(&random, 3 * MAX_BODY) : kind < 20 ? 0 : below(&random, 300);
  message->body = pool + below(&random, MAX_BODY);
}
static bool is(const char *data, size_t size, const char *text) { return size == strlen(text) && memcmp(data, text, size) == 0; }
static bool is_for_lane(const Message *message) {
  bool path = false, method = false;
  size_t size = 0;
  for (size_t i = 0; i < message->count; i++) {
    Header h = message->headers[i];
    for (size_t j = 0; j < h.name_size; j++) if (h.name[j] == 0) return false;
    for (size_t j = 0; j < h.value_size; j++) if (h.value[j] == 0) return false;
    if (is(h.name, h.name_size, ":path")) path = is(h.value, h.value_size, A) || is(h.value, h.value_size, B);
    if (is(h.name, h.name_size, ":method")) method = is(h.value, h.value_size, "POST");
    size += h.name_size + h.value_size + 2;
  }
  return path && method && !message->end && size <= MAX_HEAD && message->count <= MAX_HEADERS;
}

/* ---- The reply to it. What cannot be sent is answered by 500. */
typedef struct { char text[8 * 1024]; size_t head, body, trailers; bool malformed; } Reply;
static size_t line(char *at, const char *name, uint64_t value) { return (size_t)sprintf(at, "%s%c%lu", name, 0, value) + 1; }
static void make_reply(uint64_t number, Reply *reply) {
  uint64_t random = random_of(~number), kind = below(&random, 32);
  char *at = reply->text;
  at += line(at, ":status", 200);
  at += line(at, "number", number);
  for (size_t i = kind == 0 ? MAX_HEADERS : below(&random, 4); i > 0; i--) at += line(at, "header", i);
  if (kind == 1) at -= 1 + below(&random, 3);
  reply->head = (size_t)(at - reply->text);
  reply->body = kind == 2 || kind == 3 ? 0 : below(&random, 200);
  memcpy(at, pool + number % MAX_BODY, reply->body);
  char *trailers = at += reply->body;
  if (kind != 2) for (size_t i = kind == 4 ? MAX_HEADERS + 1 : below(&random, 3); i > 0; i--) at += line(at, "trailer", number);
  if (kind == 5) *at++ = 'x';
  reply->trailers = (size_t)(at - trailers);
  reply->malformed = kind == 0 || kind == 1 || kind == 4 || kind == 5;
}

/* ---- One Envoy's traffic. */
typedef struct { struct Player *player; Stream *stream; Message message; size_t sent; bool taken; } Model;
typedef struct Player { Envoy *envoy; uint64_t number, random, begun, answers; Model models[LIVE]; } Player;
static Player players[16];

static void end(Model *model) {
  Stream *stream = model->stream;
  model->stream = NULL;
  ASAN_POISON_MEMORY_REGION(model->message.arena, sizeof model->message.arena);
  envoy_end(stream, below(&model->player->random, 2));
}
static Model *any(Player *player) { return &player->models[below(&player->random, LIVE)]; }
static void maybe_end(Player *player, Model *model, uint64_t one_in) { if (model->stream != NULL && below(&player->random, one_in) == 0) end(model); }
static void on_sent(Stream *stream) {
  Model *model = stream->model;
  Player *player = model->player;
  bool complete = stream->sent == SENT;
  CHECK(model->taken, "stream %lu: a reply, but it was not taken", stream->number);
  if (complete) {
    Reply reply;
    make_reply(stream->number, &reply);
    size_t *sizes = stream->sizes, size = reply.head + reply.body + reply.trailers;
    if (reply.malformed) CHECK(sizes[0] == 12 && sizes[1] + sizes[2] == 0 && memcmp(stream->reply, ":status\0" "500", 12) == 0, "stream %lu: not 500", stream->number);
    else CHECK(sizes[0] == reply.head && sizes[1] == reply.body && sizes[2] == reply.trailers && memcmp(stream->reply, reply.text, size) == 0, "stream %lu: another reply", stream->number);
    player->answers++;
  }
  maybe_end(player, any(player), 8);
  maybe_end(player, model, complete ? 2 : 8);
}
static void on_continue(Stream *stream) { maybe_end(((Model *)stream->model)->player, stream->model, 8); }

static void feed(Player *player, Model *model) {
  Stream *stream = model->stream;
  Message *message = &model->message;
  if (stream == NULL || stream->ends) return;
  size_t left = message->size - model->sent, count = below(&player->random, 8) ? 1 : below(&player->random, 20);
  bool whole = below(&player->random, 4) && !message->never_ends;
  if (message->trailers && left == 0) {
    stream->ends = true;
    int status = envoy_dynamic_module_on_http_filter_request_trailers(stream, stream->module);
    CHECK(status == (stream->continued ? CONTINUE : STOP), "trailers: status %d", status);
    return;
  }
  Buffer pieces[MOST_PIECES];
  for (size_t i = 0; i < count; i++) {
    size_t size = whole && i + 1 == count ? left : below(&player->random, left + 1);
    pieces[i] = (Buffer){message->body + model->sent, size};
    model->sent += size;
    left -= size;
  }
  bool last = left == 0 && !message->trailers && !message->never_ends, waits = !stream->continued;
  uint64_t before = failures;
  size_t buffered = stream->buffered_count;
  int status = envoy_body(stream, pieces, count, last);
  model->taken = status == STOP_NO_BUFFER;
  bool fits = waits && last && model->sent <= MAX_BODY && buffered <= 16 && count <= 16;
  CHECK(failures > before || model->taken == fits, "stream %lu: taken %d of %zu bytes", stream->number, model->taken, model->sent);
}
static void begin(Player *player) {
  Model *model = any(player);
  if (model->stream != NULL || player->envoy->streams[++player->number % SLOTS] != NULL) return;
  uint64_t before = failures;
  make(player->number, &model->message);
  model->player = player;
  model->sent = 0;
  model->taken = false;
  bool expected = is_for_lane(&model->message);
  int status = envoy_headers(player->envoy, player->number, model->message.headers, model->message.count, model->message.end);
  model->stream = envoy_stream(player->envoy, player->number);
  model->stream->model = model;
  CHECK(failures > before || status == (expected ? STOP : CONTINUE), "stream %lu: headers: status %d", player->number, status);
  player->begun++;
  if (below(&player->random, 8)) feed(player, model);
}
static void play(Player *player) {
  switch (below(&player->random, 8)) {
    case 0: for (size_t i = below(&player->random, 8); i > 0; i--) envoy_run(player->envoy); break;
    case 1: feed(player, any(player)); break;
    case 2: maybe_end(player, any(player), 4); break;
    case 3: {
      Model *model = any(player);
      if (model->stream == NULL || model->stream->sent != OPEN || below(&player->random, 8)) break;
      model->stream->sent = ANSWERED;
      envoy_dynamic_module_on_http_filter_local_reply(model->stream, model->stream->module, 503, (Buffer){"", 0}, false);
      break;
    }
    default: begin(player);
  }
}

/* ---- The application. */
typedef struct { uint64_t id, number; } Held;
typedef struct { Held held[HELD]; size_t count; uint64_t random; Message message; char *buffer; } Application;
static Application app;

/* False if nothing was there. */
static bool take(void) {
  size_t room = below(&app.random, 4) ? ROOM : below(&app.random, 4096);
  ASAN_POISON_MEMORY_REGION(app.buffer + room, ROOM - room);
  size_t size = lane_take(app.buffer, room, SIZE_MAX), at = 0;
  CHECK(size <= room, "took %zu bytes of %zu", size, room);
  while (at < size) {
    Request_Record record;
    memcpy(&record, app.buffer + at, sizeof record);
    const char *head = app.buffer + at + sizeof record, *body = head + record.head_size, *value = (char *)memmem(head, record.head_size, "\0number", 8) + 8;
    uint64_t number = strtoull(value, NULL, 10);
    Message *message = &app.message;
    make(number, message);
    CHECK(is_for_lane(message) && record.size - sizeof record - record.head_size == message->size && memcmp(body, message->body, message->size) == 0, "%lu: another body", number);
    CHECK(is(message->headers[0].value, message->headers[0].value_size, head), "%lu: another path", number);
    head += strlen(head) + 1;
    for (size_t i = 0; i < message->count; i++) {
      Header h = message->headers[i];
      if (h.name_size && h.name[0] == ':') continue;
      CHECK(is(h.name, h.name_size, head), "%lu: another header", number);
      head += h.name_size + 1;
      CHECK(is(h.value, h.value_size, head), "%lu: another value", number);
      head += h.value_size + 1;
    }
    CHECK(head == body && app.count < HELD, "%lu: more headers than were sent", number);
    app.held[app.count++] = (Held){record.id, number};
    at += record.size;
  }
  ASAN_UNPOISON_MEMORY_REGION(app.buffer, ROOM);
  return size != 0;
}
static void answer(void) {
  size_t count = app.count ? 1 + below(&app.random, app.count < 8 ? app.count : 8) : 0, size = 0, ends[8];
  char *batch = malloc(9 * sizeof(Reply) + 64);
  for (size_t i = 0; i < count; i++) { /* those that are answered go to the end of `held` */
    size_t from = below(&app.random, app.count - i), to = app.count - 1 - i;
    Held held = app.held[from];
    app.held[from] = app.held[to];
    app.held[to] = held;
    lane_gone(held.id); /* its stream may end at any moment */
    Reply reply;
    make_reply(held.number, &reply);
    size_t text = reply.head + reply.body + reply.trailers;
    Reply_Record record = {(uint32_t)(sizeof record + text), (uint32_t)reply.head, (uint32_t)reply.body, 0, held.id};
    memcpy(batch + size, &record, sizeof record);
    memcpy(batch + size + sizeof record, reply.text, text);
    ends[i] = size += sizeof record + text;
  }
  /* What is no record: nothing of it is looked at. */
  Reply_Record wrong[] = {{0}, {23, 0, 0, 0, 1}, {25, 0, 0, 0, 1}, {24, 1, 0, 0, 1}, {24, ~0U, 1, 0, 1}, {24, ~0U, ~0U, 0, 1}, {~0U, 0, 0, 0, 1}};
  size_t more = below(&app.random, 4) ? 0 : below(&app.random, sizeof *wrong + 1);
  memcpy(batch + size, &wrong[below(&app.random, 7)], more);
  batch = realloc(batch, size + more + !(size + more));
  uint64_t before = failures;
  size_t done = lane_send(batch, size + more), sent = 0;
  while (sent < count && ends[sent] <= done) sent++;
  CHECK(done == (sent ? ends[sent - 1] : 0) && (sent == count || failures > before), "sent %zu bytes of %zu", done, size);
  app.count -= sent;
  free(batch);
}

/* ---- Runs. */

/* Nothing may wait once all events have run and all requests were taken and answered. */
static void settle(Player *player) {
  for (Model *model = player->models; model < player->models + LIVE; model++) {
    Stream *stream = model->stream;
    if (stream == NULL) continue;
    CHECK(model->taken || stream->continued || stream->sent == ANSWERED || !is_for_lane(&model->message), "stream %lu waits", stream->number);
    CHECK(!model->taken || stream->sent == SENT || stream->sent == ANSWERED, "stream %lu got no reply", stream->number);
    end(model);
  }
}
static bool is_readable(int event, int timeout_ms) { return poll(&(struct pollfd){event, POLLIN, 0}, 1, timeout_ms) == 1; }

static uint64_t share;
static atomic_int playing;
static void *envoy_thread(void *argument) {
  Player *player = argument;
  while (player->begun < share) {
    for (int i = 0; i < 5000; i++) play(player);
    for (int tries = 0; tries < 20000; tries++) { /* 20 s, and the scheduler's delays */
      bool waits = false;
      usleep(1000);
      for (int i = 0; i < 8 && tries < 4; i++) maybe_end(player, any(player), 2); /* one may carry the event for all replies */
      while (envoy_run(player->envoy)) {}
      for (Model *model = player->models; model < player->models + LIVE; model++) waits |= model->stream && model->taken && model->stream->sent < SENT;
      if (!waits) break;
    }
    settle(player);
  }
  playing--;
  return NULL;
}
static void run(int event, int count) {
  pthread_t threads[16];
  playing = count;
  for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, envoy_thread, &players[i]);
  while (playing) {
    if (is_readable(event, app.count ? 0 : 20)) while (take()) {}
    for (size_t i = below(&app.random, 8); i > 0 && app.count; i--) answer();
  }
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  while (is_readable(event, 0)) take();
  while (app.count) answer();
}

int main(int argc, char **argv) {
  seed = strtoull(argv[1], NULL, 10);
  int count = argc > 3 ? atoi(argv[3]) : 1;
  fprintf(stderr, "seed %lu\n", seed);
  uint64_t random = random_of(0);
  for (size_t i = 0; i < sizeof pool; i++) pool[i] = (char)below(&random, 256);
  int event = lane_open(UINT32_MAX, "", 0);
  CHECK(event >= 0 && strcmp(envoy_dynamic_module_on_program_init(), "v0.1.0") == 0, "no lane");
  for (int i = 0; i < count; i++) {
    players[i] = (Player){.envoy = envoy_new(PATHS), .number = (uint64_t)i << 40, .random = random_of((uint64_t)i << 50)};
  }
  after_send = on_sent;
  after_continue = on_continue;
  app = (Application){.random = random_of(~0UL >> 1), .buffer = malloc(ROOM)};
  share = strtoull(argv[2], NULL, 10) / (uint64_t)count;
  run(event, count);
  uint64_t answers = 0;
  for (int i = 0; i < count; i++) {
    answers += players[i].answers;
    while (envoy_run(players[i].envoy)) {}
    envoy_dynamic_module_on_http_filter_config_destroy(players[i].envoy->config);
    free(players[i].envoy);
  }
  CHECK(allocated == 0, "%ld allocations are left", allocated);
  free(app.buffer);
  printf("%lu answers\n", answers);
  return 0;
}
