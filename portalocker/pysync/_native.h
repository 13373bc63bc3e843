/* What the files of the extension share.
 *
 * From below: the parking lot (_native_lot.c), in which threads sleep; the
 * words that know what to do with who sleeps (_native_mutex_word.c,
 * _native_rw_word.c); the Python types over them, a file each.
 */
#ifndef PORTALOCKER_PYSYNC_NATIVE_H
#define PORTALOCKER_PYSYNC_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- for ThreadSanitizer ---------------------------------------------------- */

/* It does not look into the interpreter, so it is told what the interpreter's
 * locks and its allocator order. Nothing in other builds. */
#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *);
void __tsan_release(void *);
#define HAPPENS_BEFORE(what) __tsan_release((void *)(what))
#define HAPPENS_AFTER(what) __tsan_acquire((void *)(what))
#else
#define HAPPENS_BEFORE(what) ((void)(what))
#define HAPPENS_AFTER(what) ((void)(what))
#endif

/* -- time ----------------------------------------------------------------- */

/* Of the monotonic clock. */
typedef int64_t nanoseconds;

#define MILLISECOND ((nanoseconds)1000000)
#define SECOND ((nanoseconds)1000000000)
/* A deadline that never comes, and one that has always been. */
#define NEVER INT64_MAX
#define AT_ONCE ((nanoseconds)0)
/* Who waited this long is handed the lock: nobody overtakes it any more. */
#define FAIR_AFTER MILLISECOND

nanoseconds monotonic_now(void);
int time_initialize(void);

/* `deadline` from `timeout`: None or negative is NEVER, 0 is AT_ONCE. */
bool deadline_of_timeout(PyObject *timeout, nanoseconds *deadline);

/* What acquire(blocking, timeout) means, as threading.Lock has it. */
bool deadline_of_acquire(PyObject *const *arguments, Py_ssize_t count,
                         PyObject *keywords, nanoseconds *deadline);

/* -- the parking lot -------------------------------------------------------- */

struct bucket;
struct wake_list;

/* Called with the bucket locked, when a waiter for `key` went unclaimed. */
typedef void gave_up_function(struct bucket *, const void *key,
                              struct wake_list *);

/* One thread that sleeps; on the heap, because a daemon thread may end with
 * the interpreter while its waiter still stands in a queue. */
struct waiter {
    struct waiter *next, *previous;
    const void *key;          /* what it waits for, by address */
    PyThread_type_lock alarm; /* held, but for the moment of the wake-up */
    nanoseconds fair_at;      /* from here on it has to be handed the lock */
    unsigned generation;      /* forks before it took its place */
    gave_up_function *gave_up; /* or NULL */
    struct cs_thread *sections; /* to be resumed, or NULL */
    bool is_writer;
    bool is_claimed;          /* left the queue, its alarm is about to ring */
    bool is_handed;           /* and the lock is its own */
    /* for people who ask who waits; the thread keeps `object` alive */
    PyObject *object;
    PyInterpreterState *interpreter;
    unsigned long thread;
    unsigned long long serial;
    PyObject *argument;       /* park()'s, for unpark()'s callback */
};

/* Waiters in the order of arrival. */
struct queue {
    struct waiter *first, *last;
};

void queue_append(struct queue *, struct waiter *);
void queue_remove(struct queue *, struct waiter *);
struct waiter *queue_find(const struct queue *, const void *key);
/* The next one behind `waiter` with the same key. */
struct waiter *queue_find_next(const struct waiter *waiter);

/* Those who are woken when the queue is unlocked. */
struct wake_list {
    struct waiter *first;
};

void claim(struct queue *, struct waiter *, struct wake_list *);
void wake(struct wake_list *);

/* A waiter for one visit; NULL with an error: no memory, or this thread is
 * inside a callback of the lot. */
struct waiter *waiter_take(const void *key, PyObject *object);
/* And resume the sections: false if that raised. */
bool waiter_give_back(struct waiter *);

/* Of a sleep: DONE is woken. Of a wait for a lock: DONE is taken.
 * INTERRUPTED comes with an exception. */
enum outcome { DONE, TIMED_OUT, INTERRUPTED };

/* A lock that is held for a handful of instructions, never over Python code,
 * with or without the interpreter's lock. */
struct spin_lock {
    atomic_bool is_held;
};

void spin_lock(struct spin_lock *);
void spin_unlock(struct spin_lock *);

/* Whoever waits for one of our words waits in one of these. */
struct bucket {
    struct spin_lock lock;
    struct queue queue;
};

struct bucket *bucket_lock(const void *key);
void bucket_unlock(struct bucket *);

/* Stand in the bucket's queue, and unlock it. */
void bucket_enter(struct bucket *, struct waiter *);
/* Sleep there: until claimed, until `deadline`, or until a signal's handler
 * raised. A waiter that is_claimed when this returns INTERRUPTED has to pass
 * on what it was given. Suspends the thread's critical sections; giving back
 * the waiter resumes them. */
enum outcome bucket_sleep(struct waiter *, nanoseconds deadline,
                          bool heeds_signals);

/* Everybody who waits for `key` looks again. */
void bucket_wake_all(const void *key);
/* A list of (thread, serial, object) of this interpreter's waiters. */
PyObject *lot_waits(void);

/* A thread that runs a callback of park() or unpark() may not use the lot:
 * true with RuntimeError. */
bool callback_is_running(void);
void callbacks_after_fork(void);

int lot_initialize(void);
/* Not once the interpreter ends: a daemon thread would never take it. */
bool may_hand_over(void);
/* Forks up to now, and the thread that came through the last one. */
unsigned fork_generation(void);
unsigned long fork_survivor(void);

/* -- the byte lock ---------------------------------------------------------- */

enum { LOCKED = 1, PARKED = 2 };

/* bits             | meaning
 * 0                | free
 * LOCKED           | held
 * PARKED           | free, threads in the lot: one of them was woken
 * LOCKED | PARKED  | held, threads in the lot
 *
 * Taking it acquires, letting go releases, so that what one holder wrote the
 * next one sees; a hand-over is ordered by the alarm. Setting PARKED is
 * relaxed: who unlocks reads it in its own compare-exchange or, with the
 * bucket locked, after the one that set it. */
struct mutex {
    atomic_uchar bits;
    bool is_unfair; /* never handed over */
};

static inline bool
mutex_try(struct mutex *mutex)
{
    unsigned char bits = atomic_load_explicit(&mutex->bits,
                                              memory_order_relaxed);
    while (!(bits & LOCKED)) {
        if (atomic_compare_exchange_weak_explicit(
                &mutex->bits, &bits, bits | LOCKED, memory_order_acquire,
                memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

static inline bool
mutex_is_locked(struct mutex *mutex)
{
    return atomic_load_explicit(&mutex->bits, memory_order_acquire) & LOCKED;
}

/* DONE: it is ours. INTERRUPTED: with the handler's exception. */
enum outcome mutex_lock_slow(struct mutex *, PyObject *object,
                             nanoseconds deadline, bool heeds_signals);

static inline enum outcome
mutex_lock(struct mutex *mutex, PyObject *object, nanoseconds deadline)
{
    unsigned char expected = 0;
    if (atomic_compare_exchange_strong_explicit(
            &mutex->bits, &expected, LOCKED, memory_order_acquire,
            memory_order_relaxed)) {
        return DONE;
    }
    return mutex_lock_slow(mutex, object, deadline, true);
}

/* False with RuntimeError; then nothing has changed. */
bool mutex_unlock_slow(struct mutex *);
/* Free, and whoever waits looks again. */
void mutex_reset(struct mutex *);

static inline bool
mutex_unlock(struct mutex *mutex)
{
    unsigned char expected = LOCKED;
    return atomic_compare_exchange_strong_explicit(
               &mutex->bits, &expected, 0, memory_order_release,
               memory_order_relaxed)
        || mutex_unlock_slow(mutex);
}

/* -- critical sections ------------------------------------------------------ */

/* Before this thread sleeps: unlock what its sections hold. NULL: it has no
 * sections. */
struct cs_thread *sections_suspend(void);
/* Lock again what the innermost one holds, for sure. A signal's handler may
 * raise meanwhile: false with its exception, unless one was set before. */
bool sections_resume(struct cs_thread *);

/* -- types ------------------------------------------------------------------ */

/* How each of our objects begins. */
#define OBJECT_HEAD \
    PyObject_HEAD \
    vectorcallfunc call; \
    PyObject *weak_references;

struct object {
    OBJECT_HEAD
};

/* The word that decides whether to wait comes right behind; its address is
 * the key in the lot. */
#define ASSERT_WORD_FIRST(structure, member) \
    _Static_assert(offsetof(structure, member) == sizeof(struct object), \
                   "what is waited for has to come first")

/* For Py_tp_members: where they are. */
extern PyMemberDef object_members[], context_members[];

struct mutex_object {
    OBJECT_HEAD
    struct mutex mutex;
    _Atomic unsigned long holder; /* who acquired it last */
};

ASSERT_WORD_FIRST(struct mutex_object, mutex);

/* What the module keeps for each interpreter: references, nothing else. */
struct module_state {
    PyTypeObject *context_type; /* what __enter__ and __exit__ are */
    PyTypeObject *timed_type;
    PyTypeObject *mutex_type, *raw_type, *recursive_type;
    PyTypeObject *event_type, *once_type, *seq_type;
    PyTypeObject *rw_type, *view_type;
    PyTypeObject *write_type;
    PyTypeObject *thread_type, *section_type;
    PyTypeObject *word_type;
    PyObject *lock_status[3]; /* by number */
    PyObject *park_status[4];
};

static inline struct module_state *
module_state(PyObject *module)
{
    return PyModule_GetState(module);
}

/* The context type is there already. */
int add_timed(PyObject *module);
int add_mutexes(PyObject *module);
int add_recursive_mutex(PyObject *module);
int add_rw_mutex(PyObject *module);
int add_event(PyObject *module);
int add_once(PyObject *module);
int add_seq_lock(PyObject *module);
int add_sections(PyObject *module);
int add_atomic_int(PyObject *module);
int add_parking(PyObject *module);

/* What the threads in the lot wait for. */
const void *rw_mutex_key(PyObject *rw_mutex);
const void *rw_view_key(PyObject *view);
int64_t atomic_int_value(PyObject *atomic_int);

/* False with TypeError or OverflowError. */
bool as_int64(PyObject *number, int64_t *value);

int add_context_descriptor_type(PyObject *module);
/* Make a type. It goes into the module where `name` is not NULL, and into
 * `keep` where that is not NULL. */
int add_type(PyObject *module, const char *name, PyType_Spec *,
             PyTypeObject **keep);
/* The same for a type whose objects are their own __enter__ and __exit__. */
int add_context_type(PyObject *module, const char *name, PyType_Spec *,
                     PyTypeObject **keep);

/* How one of our locks is taken and let go; both may raise. */
struct lock_verbs {
    enum outcome (*acquire)(PyObject *lock, nanoseconds deadline);
    bool (*release)(PyObject *lock);
    bool (*is_locked)(PyObject *lock);
};

/* lock.timed(seconds) */
PyObject *new_timed(PyTypeObject *defining, PyObject *lock,
                    const struct lock_verbs *, PyObject *const *arguments,
                    Py_ssize_t count, PyObject *keywords);

/* Of zeros; free_object() is its end. */
PyObject *allocate(PyTypeObject *);
/* The same, called without arguments; context objects are given their call. */
PyObject *new_object(PyTypeObject *, PyObject *arguments, PyObject *keywords);
PyObject *new_context(PyTypeObject *, PyObject *arguments,
                      PyObject *keywords, vectorcallfunc call);
void free_object(PyObject *self);

/* The arguments of function(names[0], ...), the first `required` of them
 * given for sure; `values` are borrowed or NULL. */
bool take_arguments(const char *function, const char *const *names,
                    Py_ssize_t required, PyObject *const *arguments,
                    Py_ssize_t count, PyObject *keywords, PyObject **values);

/* None, or NULL where `is_done` is false. */
static inline PyObject *
none_if(bool is_done)
{
    return is_done ? Py_NewRef(Py_None) : NULL;
}

/* True, False for TIMED_OUT, NULL for INTERRUPTED. */
static inline PyObject *
outcome_as_bool(enum outcome outcome)
{
    return outcome == INTERRUPTED ? NULL : PyBool_FromLong(outcome == DONE);
}

/* __enter__ and __exit__ of a context: how many arguments a call has. */
enum { ENTERS = 0, EXITS = 3 };
/* Which of them a call is; -1 with TypeError. */
int context_call(size_t flagged_count, PyObject *keywords);

PyObject *refuse_copy(PyObject *self, PyObject *ignored);

#define REFUSE_COPIES \
    {"__copy__", refuse_copy, METH_NOARGS, NULL}, \
    {"__deepcopy__", refuse_copy, METH_O, NULL}, \
    {"__reduce__", refuse_copy, METH_NOARGS, NULL}, \
    {"__reduce_ex__", refuse_copy, METH_O, NULL}

#define KEYWORDS(function) \
    (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS
/* Also told which class defines it, and so which module it is of. */
#define OF_CLASS(function) \
    (PyCFunction)(void (*)(void))(function), \
        METH_METHOD | METH_FASTCALL | METH_KEYWORDS

#endif
