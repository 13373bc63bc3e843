/* RWMutex: many readers or one writer, nobody kept out for long. */
#include "_native.h"

/* bits                | meaning
 * 0                   | free
 * WRITTEN             | a writer holds it
 * n * READER          | n readers hold it
 * ... | WAITED        | threads in the lot; all but readers that are not the
 *                     | last to leave need the bucket
 *
 * While nobody waits for longer than OVERTAKEN_FOR, who comes first gets it.
 * Then it is handed over: after a writer to all readers that wait, after
 * readers to the writer that has waited longest. */
enum { WRITTEN = 1, WAITED = 2, READER = 4 };

/* About what a hand-over costs, two switches of threads: less, and short
 * sections go at its pace; more, and long ones wait for nothing. */
#define OVERTAKEN_FOR (MILLISECOND / 10)

typedef uintptr_t rw_bits;

/* Each change is one compare-exchange that acquires and releases: a reader
 * that leaves passes on to the writer what it read, and the last one what all
 * before it did. Plain stores happen under the bucket's lock, by whoever has
 * the word to itself. */
struct rw_word {
    _Atomic rw_bits bits;
    _Atomic unsigned long holder; /* the writer */
};

static inline rw_bits
load(struct rw_word *rw)
{
    return atomic_load_explicit(&rw->bits, memory_order_relaxed);
}

static inline bool
replace(struct rw_word *rw, rw_bits *expected, rw_bits desired)
{
    return atomic_compare_exchange_strong_explicit(
        &rw->bits, expected, desired, memory_order_acq_rel,
        memory_order_relaxed);
}

static inline bool
is_read(rw_bits bits)
{
    return bits >= READER;
}

/* -- under the bucket's lock ---------------------------------------------------- */

static struct waiter *
first_writer(struct bucket *bucket, struct rw_word *rw)
{
    struct waiter *waiter = queue_find(&bucket->queue, rw);
    while (waiter != NULL && !waiter->is_writer) {
        waiter = queue_find_next(waiter);
    }
    return waiter;
}

static bool
somebody_starves(struct bucket *bucket, struct rw_word *rw)
{
    nanoseconds now = monotonic_now();
    struct waiter *waiter = queue_find(&bucket->queue, rw);
    while (waiter != NULL && now <= waiter->fair_at) {
        waiter = queue_find_next(waiter);
    }
    return waiter != NULL;
}

/* Claim all that wait, for them to try again. */
static void
claim_all(struct bucket *bucket, struct rw_word *rw, struct wake_list *woken)
{
    struct waiter *waiter = queue_find(&bucket->queue, rw);
    while (waiter != NULL) {
        struct waiter *next = queue_find_next(waiter);
        claim(&bucket->queue, waiter, woken);
        waiter = next;
    }
}

/* Let waiting readers in beside those who hold it: those in line before
 * `end`, or all where that is NULL. */
static void
hand_to_readers(struct bucket *bucket, struct rw_word *rw,
                const struct waiter *end, struct wake_list *woken)
{
    if (!may_hand_over()) {
        claim_all(bucket, rw, woken);
    }
    rw_bits came = 0;
    struct waiter *waiter = queue_find(&bucket->queue, rw);
    while (waiter != NULL && waiter != end) {
        struct waiter *next = queue_find_next(waiter);
        if (!waiter->is_writer) {
            waiter->is_handed = true;
            claim(&bucket->queue, waiter, woken);
            came += READER;
        }
        waiter = next;
    }
    rw_bits waited = queue_find(&bucket->queue, rw) != NULL ? WAITED : 0;
    rw_bits bits = load(rw);
    while (!replace(rw, &bits, ((bits & ~(rw_bits)WAITED) + came) | waited)) {
    }
}

static bool
a_reader_waits(struct bucket *bucket, struct rw_word *rw)
{
    struct waiter *waiter = queue_find(&bucket->queue, rw);
    while (waiter != NULL && waiter->is_writer) {
        waiter = queue_find_next(waiter);
    }
    return waiter != NULL;
}

/* It is free but for WAITED: whose turn is it? */
static void
grant(struct bucket *bucket, struct rw_word *rw, bool after_writer,
      struct wake_list *woken)
{
    struct waiter *writer = first_writer(bucket, rw);
    if (!may_hand_over() || !somebody_starves(bucket, rw)) {
        claim_all(bucket, rw, woken);
        atomic_store_explicit(&rw->bits, 0, memory_order_release);
    }
    else if (writer == NULL || (after_writer && a_reader_waits(bucket, rw))) {
        hand_to_readers(bucket, rw, NULL, woken);
    }
    else {
        writer->is_handed = true;
        claim(&bucket->queue, writer, woken);
        rw_bits waited = queue_find(&bucket->queue, rw) != NULL ? WAITED : 0;
        atomic_store_explicit(&rw->bits, WRITTEN | waited,
                              memory_order_release);
    }
}

/* Somebody stopped waiting. Where readers hold it, those who stood behind a
 * writer that gave up go in, as far as the next writer. */
static void
gave_up(struct bucket *bucket, const void *key, struct wake_list *woken)
{
    struct rw_word *rw = (struct rw_word *)key;
    if (!(load(rw) & WRITTEN)) {
        hand_to_readers(bucket, rw, first_writer(bucket, rw), woken);
    }
    else if (queue_find(&bucket->queue, rw) == NULL) {
        atomic_fetch_and_explicit(&rw->bits, ~(rw_bits)WAITED,
                                  memory_order_relaxed);
    }
}

/* -- locking -------------------------------------------------------------------- */

/* Take it if that needs no waiting, else set WAITED if this thread will. Where
 * nobody stands in the lot although WAITED is set (they stayed behind in the
 * parent), it means nothing. */
static bool
try_in_bucket(struct bucket *bucket, struct rw_word *rw, bool as_writer,
              bool will_wait)
{
    bool is_waited = queue_find(&bucket->queue, rw) != NULL;
    rw_bits bits = load(rw);
    for (;;) {
        bool is_free
            = !(bits & WRITTEN) && !(as_writer && is_read(bits));
        if (!is_free || is_waited) {
            if (!will_wait || replace(rw, &bits, bits | WAITED)) {
                return false;
            }
        }
        else if (replace(rw, &bits,
                         (bits & ~(rw_bits)WAITED)
                             + (as_writer ? WRITTEN : READER))) {
            return true;
        }
    }
}

static bool unlock_read(struct rw_word *);
static bool unlock_write(struct rw_word *);

static enum outcome
lock_slow(struct rw_word *rw, PyObject *object, nanoseconds deadline,
          bool as_writer)
{
    if (deadline == AT_ONCE) {
        struct bucket *bucket = bucket_lock(rw);
        bool is_taken = try_in_bucket(bucket, rw, as_writer, false);
        bucket_unlock(bucket);
        return is_taken ? DONE : TIMED_OUT;
    }
    struct waiter *waiter = waiter_take(rw, object);
    if (waiter == NULL) {
        return INTERRUPTED;
    }
    waiter->is_writer = as_writer;
    waiter->fair_at += OVERTAKEN_FOR - FAIR_AFTER;
    waiter->gave_up = gave_up;
    enum outcome outcome = DONE;
    do {
        struct bucket *bucket = bucket_lock(rw);
        if (try_in_bucket(bucket, rw, as_writer, true)) {
            bucket_unlock(bucket);
            break;
        }
        bucket_enter(bucket, waiter);
        outcome = bucket_sleep(waiter, deadline, true);
        if (outcome == INTERRUPTED && waiter->is_claimed
            && waiter->is_handed) {
            as_writer ? unlock_write(rw) : unlock_read(rw);
        }
    } while (outcome == DONE && !waiter->is_handed);
    if (!waiter_give_back(waiter)) {
        if (outcome == DONE) {
            as_writer ? unlock_write(rw) : unlock_read(rw);
        }
        return INTERRUPTED;
    }
    return outcome;
}

static inline enum outcome
lock_read(struct rw_word *rw, PyObject *object, nanoseconds deadline)
{
    rw_bits bits = load(rw);
    while (!(bits & (WRITTEN | WAITED))) {
        if (replace(rw, &bits, bits + READER)) {
            return DONE;
        }
    }
    return lock_slow(rw, object, deadline, false);
}

static inline enum outcome
lock_write(struct rw_word *rw, PyObject *object, nanoseconds deadline)
{
    rw_bits bits = 0;
    enum outcome outcome = DONE;
    if (!replace(rw, &bits, WRITTEN)) {
        outcome = lock_slow(rw, object, deadline, true);
    }
    if (outcome == DONE) {
        atomic_store_explicit(&rw->holder, PyThread_get_thread_ident(),
                              memory_order_relaxed);
    }
    return outcome;
}

/* False with RuntimeError. */
static bool
refuse_unlock(void)
{
    PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
    return false;
}

/* The last reader leaves, and somebody waits. */
static bool
unlock_read_slow(struct rw_word *rw)
{
    struct wake_list woken = {NULL};
    struct bucket *bucket = bucket_lock(rw);
    rw_bits bits = load(rw);
    while (is_read(bits) && !replace(rw, &bits, bits - READER)) {
    }
    if (bits == (READER | WAITED)) {
        grant(bucket, rw, false, &woken);
    }
    bucket_unlock(bucket);
    wake(&woken);
    return is_read(bits) || refuse_unlock();
}

static bool
unlock_read(struct rw_word *rw)
{
    rw_bits bits = load(rw);
    for (;;) {
        if (!is_read(bits)) {
            return refuse_unlock();
        }
        if (bits == (READER | WAITED)) {
            return unlock_read_slow(rw);
        }
        if (replace(rw, &bits, bits - READER)) {
            return true;
        }
    }
}

static bool
unlock_write(struct rw_word *rw)
{
    rw_bits bits = WRITTEN;
    if (replace(rw, &bits, 0)) {
        return true;
    }
    if (!(bits & WRITTEN)) {
        return refuse_unlock();
    }
    struct wake_list woken = {NULL};
    struct bucket *bucket = bucket_lock(rw);
    bool is_written = load(rw) & WRITTEN;
    if (is_written) {
        atomic_store_explicit(&rw->bits, WAITED, memory_order_release);
        grant(bucket, rw, true, &woken);
    }
    bucket_unlock(bucket);
    wake(&woken);
    return is_written || refuse_unlock();
}

/* The writer becomes a reader; so do the readers that wait. */
static bool
downgrade(struct rw_word *rw)
{
    rw_bits bits = WRITTEN;
    if (replace(rw, &bits, READER)) {
        return true;
    }
    if (!(bits & WRITTEN)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot downgrade: no writer holds the lock");
        return false;
    }
    struct wake_list woken = {NULL};
    struct bucket *bucket = bucket_lock(rw);
    bits = load(rw);
    bool is_written = bits & WRITTEN;
    if (is_written) {
        atomic_store_explicit(&rw->bits, READER | (bits & WAITED),
                              memory_order_release);
        hand_to_readers(bucket, rw, NULL, &woken);
    }
    bucket_unlock(bucket);
    wake(&woken);
    if (!is_written) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot downgrade: no writer holds the lock");
    }
    return is_written;
}

static void
reset(struct rw_word *rw)
{
    atomic_store_explicit(&rw->bits, 0, memory_order_release);
    bucket_wake_all(rw);
}

static PyObject *
holder_of(struct rw_word *rw)
{
    return PyLong_FromUnsignedLong(
        load(rw) & WRITTEN
            ? atomic_load_explicit(&rw->holder, memory_order_relaxed)
            : 0);
}

/* -- the views ------------------------------------------------------------------ */

/* rw.reader and rw.writer. The word is in the reader; whoever else needs it
 * holds a reference to that. */
struct view {
    OBJECT_HEAD
    struct rw_word *rw;
    struct view *reader; /* NULL in the reader */
    bool is_writer;
    struct rw_word word; /* the reader's */
};

static inline enum outcome
lock_view(struct view *self, nanoseconds deadline)
{
    return self->is_writer
               ? lock_write(self->rw, (PyObject *)self, deadline)
               : lock_read(self->rw, (PyObject *)self, deadline);
}

static inline bool
unlock_view(struct view *self)
{
    return self->is_writer ? unlock_write(self->rw) : unlock_read(self->rw);
}

static PyObject *
view_call(PyObject *object, PyObject *const *Py_UNUSED(arguments),
          size_t count, PyObject *keywords)
{
    struct view *self = (struct view *)object;
    switch (context_call(count, keywords)) {
    case ENTERS:
        return lock_view(self, NEVER) == DONE ? Py_NewRef(Py_True) : NULL;
    case EXITS:
        return none_if(unlock_view(self));
    default:
        return NULL;
    }
}

static PyObject *
view_acquire(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
             PyObject *keywords)
{
    nanoseconds deadline = NEVER;
    if ((count != 0 || keywords != NULL)
        && !deadline_of_acquire(arguments, count, keywords, &deadline)) {
        return NULL;
    }
    return outcome_as_bool(lock_view((struct view *)self, deadline));
}

static PyObject *
view_release(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(unlock_view((struct view *)self));
}

static bool
view_is_locked(struct view *self)
{
    rw_bits bits = load(self->rw);
    return self->is_writer ? bits & WRITTEN : is_read(bits);
}

static PyObject *
view_locked(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(view_is_locked((struct view *)self));
}

static enum outcome
view_timed_acquire(PyObject *self, nanoseconds deadline)
{
    return lock_view((struct view *)self, deadline);
}

static bool
view_timed_release(PyObject *self)
{
    return unlock_view((struct view *)self);
}

static PyObject *
view_timed(PyObject *self, PyTypeObject *defining, PyObject *const *arguments,
           Py_ssize_t count, PyObject *keywords)
{
    static const struct timed_verbs verbs
        = {view_timed_acquire, view_timed_release};
    return new_timed(defining, self, &verbs, arguments, count, keywords);
}

static PyObject *
view_holder(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return holder_of(((struct view *)self)->rw);
}

static PyObject *
view_at_fork_reinit(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    reset(((struct view *)self)->rw);
    Py_RETURN_NONE;
}

static PyObject *
view_repr(PyObject *object)
{
    struct view *self = (struct view *)object;
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.RWMutex.%s object at %p>",
        view_is_locked(self) ? "locked" : "unlocked",
        self->is_writer ? "writer" : "reader", self);
}

static void
view_dealloc(PyObject *self)
{
    Py_CLEAR(((struct view *)self)->reader);
    free_object(self);
}

PyDoc_STRVAR(view_doc,
"One side of an RWMutex, shaped like a lock: rw.reader or rw.writer.");

static PyMethodDef view_methods[] = {
    {"acquire", KEYWORDS(view_acquire),
     PyDoc_STR("acquire($self, blocking=True, timeout=-1)\n--\n\n"
               "Take this side and return True; False if it stayed taken.")},
    {"release", view_release, METH_NOARGS,
     PyDoc_STR("release($self)\n--\n\n"
               "Let go; any thread may. RuntimeError if it is not locked.")},
    {"locked", view_locked, METH_NOARGS,
     PyDoc_STR("locked($self)\n--\n\nSay whether this side is held.")},
    {"timed", OF_CLASS(view_timed),
     PyDoc_STR("timed($self, seconds)\n--\n\n"
               "For `with`: TimeoutError if it stays taken so long.")},
    {"_holder", view_holder, METH_NOARGS, NULL},
    {"_at_fork_reinit", view_at_fork_reinit, METH_NOARGS, NULL},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot view_slots[] = {
    {Py_tp_doc, (char *)view_doc},
    {Py_tp_dealloc, view_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, view_repr},
    {Py_tp_members, context_members},
    {Py_tp_methods, view_methods},
    {0, NULL},
};

static PyType_Spec view_spec = {
    .name = "portalocker.pysync.RWMutexView",
    .basicsize = sizeof(struct view),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = view_slots,
};

/* -- RWMutex ---------------------------------------------------------------------- */

struct rw_object {
    OBJECT_HEAD
    struct view *reader, *writer;
};

static inline struct rw_word *
word_of(PyObject *self)
{
    return ((struct rw_object *)self)->reader->rw;
}

const void *
rw_mutex_key(PyObject *self)
{
    return word_of(self);
}

const void *
rw_view_key(PyObject *self)
{
    return ((struct view *)self)->rw;
}

static struct view *
new_view(PyTypeObject *type, struct view *reader)
{
    struct view *view = (struct view *)allocate(type);
    if (view != NULL) {
        view->call = view_call;
        view->is_writer = reader != NULL;
        view->reader = (struct view *)Py_XNewRef((PyObject *)reader);
        view->rw = reader != NULL ? &reader->word : &view->word;
    }
    return view;
}

static PyObject *
rw_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    struct module_state *state = PyType_GetModuleState(type);
    if (state == NULL) {
        return NULL;
    }
    struct rw_object *self
        = (struct rw_object *)new_object(type, arguments, keywords);
    if (self != NULL) {
        self->reader = new_view(state->view_type, NULL);
    }
    if (self != NULL && self->reader != NULL) {
        self->writer = new_view(state->view_type, self->reader);
    }
    if (self != NULL && self->writer == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
rw_dealloc(PyObject *object)
{
    struct rw_object *self = (struct rw_object *)object;
    Py_CLEAR(self->writer);
    Py_CLEAR(self->reader);
    free_object(object);
}

static PyObject *
rw_acquire_read(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                PyObject *keywords)
{
    nanoseconds deadline = NEVER;
    if ((count != 0 || keywords != NULL)
        && !deadline_of_acquire(arguments, count, keywords, &deadline)) {
        return NULL;
    }
    return outcome_as_bool(lock_read(word_of(self), self, deadline));
}

static PyObject *
rw_acquire_write(PyObject *self, PyObject *const *arguments,
                 Py_ssize_t count, PyObject *keywords)
{
    nanoseconds deadline = NEVER;
    if ((count != 0 || keywords != NULL)
        && !deadline_of_acquire(arguments, count, keywords, &deadline)) {
        return NULL;
    }
    return outcome_as_bool(lock_write(word_of(self), self, deadline));
}

static PyObject *
rw_r_lock(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(lock_read(word_of(self), self, NEVER) == DONE);
}

static PyObject *
rw_r_unlock(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(unlock_read(word_of(self)));
}

static PyObject *
rw_lock(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(lock_write(word_of(self), self, NEVER) == DONE);
}

static PyObject *
rw_unlock(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(unlock_write(word_of(self)));
}

static PyObject *
rw_downgrade(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(downgrade(word_of(self)));
}

static PyObject *
rw_holder(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return holder_of(word_of(self));
}

static PyObject *
rw_at_fork_reinit(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    reset(word_of(self));
    Py_RETURN_NONE;
}

static PyObject *
rw_repr(PyObject *self)
{
    rw_bits bits = load(word_of(self));
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.RWMutex object at %p>",
        bits & WRITTEN  ? "write-locked"
        : is_read(bits) ? "read-locked"
                        : "unlocked",
        self);
}

static PyMemberDef rw_members[] = {
    {"__weaklistoffset__", T_PYSSIZET,
     offsetof(struct rw_object, weak_references), READONLY, NULL},
    {"reader", T_OBJECT_EX, offsetof(struct rw_object, reader), READONLY,
     PyDoc_STR("The side of the readers, shaped like a lock.")},
    {"writer", T_OBJECT_EX, offsetof(struct rw_object, writer), READONLY,
     PyDoc_STR("The side of the writer, shaped like a lock.")},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(rw_doc,
"RWMutex()\n--\n\n"
"Many readers or one writer; who waited 0.1 ms gets its turn.");

static PyMethodDef rw_methods[] = {
    {"acquire_read", KEYWORDS(rw_acquire_read),
     PyDoc_STR("acquire_read($self, blocking=True, timeout=-1)\n--\n\n"
               "Take it as a reader and return True; False if it stayed "
               "taken.")},
    {"release_read", rw_r_unlock, METH_NOARGS,
     PyDoc_STR("release_read($self)\n--\n\n"
               "One reader leaves. RuntimeError if there is none.")},
    {"acquire_write", KEYWORDS(rw_acquire_write),
     PyDoc_STR("acquire_write($self, blocking=True, timeout=-1)\n--\n\n"
               "Take it as the writer and return True; False if it stayed "
               "taken.")},
    {"release_write", rw_unlock, METH_NOARGS,
     PyDoc_STR("release_write($self)\n--\n\n"
               "The writer leaves. RuntimeError if there is none.")},
    {"r_lock", rw_r_lock, METH_NOARGS,
     PyDoc_STR("r_lock($self)\n--\n\nTake it as a reader.")},
    {"r_unlock", rw_r_unlock, METH_NOARGS,
     PyDoc_STR("r_unlock($self)\n--\n\n"
               "One reader leaves. RuntimeError if there is none.")},
    {"lock", rw_lock, METH_NOARGS,
     PyDoc_STR("lock($self)\n--\n\nTake it as the writer.")},
    {"unlock", rw_unlock, METH_NOARGS,
     PyDoc_STR("unlock($self)\n--\n\n"
               "The writer leaves. RuntimeError if there is none.")},
    {"downgrade", rw_downgrade, METH_NOARGS,
     PyDoc_STR("downgrade($self)\n--\n\n"
               "The writer becomes a reader, and no writer comes between.")},
    {"_holder", rw_holder, METH_NOARGS, NULL},
    {"_at_fork_reinit", rw_at_fork_reinit, METH_NOARGS, NULL},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot rw_slots[] = {
    {Py_tp_doc, (char *)rw_doc},
    {Py_tp_new, rw_new},
    {Py_tp_dealloc, rw_dealloc},
    {Py_tp_repr, rw_repr},
    {Py_tp_members, rw_members},
    {Py_tp_methods, rw_methods},
    {0, NULL},
};

static PyType_Spec rw_spec = {
    .name = "portalocker.pysync.RWMutex",
    .basicsize = sizeof(struct rw_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = rw_slots,
};

int
add_rw_mutex(PyObject *module)
{
    struct module_state *state = module_state(module);
    return add_context_type(module, NULL, &view_spec, &state->view_type) < 0
                   || add_type(module, "RWMutex", &rw_spec, &state->rw_type)
                          < 0
               ? -1
               : 0;
}
