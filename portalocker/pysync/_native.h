/* What the files of the extension share.
 *
 * From below: the parking lot (_native_lot.c), in which threads sleep; the
 * words that know what to do with who sleeps (struct mutex, struct rw_word);
 * the Python types over them.
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

#if !defined(Py_LIMITED_API) && PY_VERSION_HEX < 0x030c0000
#define Py_TPFLAGS_HAVE_VECTORCALL _Py_TPFLAGS_HAVE_VECTORCALL
#endif

/* -- time ----------------------------------------------------------------- */

/* Of the monotonic clock. */
typedef int64_t nanoseconds;

#define MILLISECOND ((nanoseconds)1000000)
#define SECOND ((nanoseconds)1000000000)
/* A deadline that never comes, and one that has always been. */
#define NEVER INT64_MAX
#define AT_ONCE INT64_MIN
/* Who waited this long is handed the lock: nobody overtakes it any more. */
#define FAIR_AFTER MILLISECOND

nanoseconds monotonic_now(void);

/* `deadline` from `timeout`: None or negative is NEVER, 0 is AT_ONCE. */
bool deadline_of_timeout(PyObject *timeout, nanoseconds *deadline);

/* What acquire(blocking, timeout) means, as threading.Lock has it. */
bool deadline_of_acquire(PyObject *const *arguments, Py_ssize_t count,
                         PyObject *keywords, nanoseconds *deadline);

/* -- the parking lot -------------------------------------------------------- */

/* One thread that sleeps; on the heap, because a daemon thread may end with
 * the interpreter while its waiter still stands in a queue. */
struct waiter {
    struct waiter *next, *previous;
    const void *key;          /* what it waits for, by address */
    PyThread_type_lock alarm; /* held, but for the moment of the wake-up */
    unsigned long thread;
    unsigned generation;      /* forks before it took its place */
    nanoseconds fair_at;      /* from here on it has to be handed the lock */
    PyObject *argument;       /* for unpark()'s callback; borrowed */
    const char *wants;        /* in words */
    /* of the thread it waits for, where that is known */
    const _Atomic unsigned long *holder;
    bool is_writer;
    bool is_claimed;          /* left the queue, its alarm is about to ring */
    bool is_handed;           /* and the lock is its own */
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

/* A waiter for one visit; NULL with MemoryError. */
struct waiter *waiter_take(const void *key, const char *wants);
void waiter_give_back(struct waiter *);

enum outcome { WOKEN, TIMED_OUT, INTERRUPTED };

/* Take `waiter` out of its queue, unless it is claimed: then wait for the
 * alarm and return false. Called without the interpreter's lock if late. */
typedef bool leave_function(struct waiter *);

/* Sleep until claimed, until `deadline`, or until a signal's handler raised.
 * TIMED_OUT has left the queue, INTERRUPTED has not. */
enum outcome waiter_sleep(struct waiter *, nanoseconds deadline,
                          bool heeds_signals, leave_function *leave);

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

/* Called with the bucket locked, when a waiter for its key gave up. */
typedef void gave_up_function(struct bucket *, const void *key,
                              struct wake_list *);

/* Unlock the bucket, sleep in it. Where this returns INTERRUPTED, a waiter
 * that is_claimed has to pass on what it was given. */
enum outcome bucket_sleep(struct bucket *, struct waiter *,
                          nanoseconds deadline, bool heeds_signals,
                          gave_up_function *gave_up);

Py_ssize_t bucket_count(const void *key);

/* Forget all waiters: they are threads of the parent. */
void lot_after_fork(void);
int lot_initialize(void);
/* Forks up to now, and the thread that came through the last one. */
unsigned fork_generation(void);
unsigned long fork_survivor(void);

/* What is waited for, for people: a list of tuples. */
struct wait_report {
    unsigned long thread;
    unsigned long holder; /* 0: unknown */
    const void *key;
    const char *wants;
};

/* At most `size` of those who wait; how many there are. */
size_t lot_report(struct wait_report *reports, size_t size);

/* -- the byte lock ---------------------------------------------------------- */

enum { LOCKED = 1, PARKED = 2 };

/* bits             | meaning
 * 0                | free
 * LOCKED           | held
 * PARKED           | free, threads in the lot: one of them was woken
 * LOCKED | PARKED  | held, threads in the lot */
struct mutex {
    atomic_uchar bits;
    bool is_unfair;                /* never handed over */
    _Atomic unsigned long *holder; /* who has it, where somebody notes it */
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

/* WOKEN: it is ours. INTERRUPTED: with the handler's exception. */
enum outcome mutex_lock_slow(struct mutex *, nanoseconds deadline,
                             bool heeds_signals, const char *wants);

static inline enum outcome
mutex_lock(struct mutex *mutex, nanoseconds deadline, const char *wants)
{
    unsigned char expected = 0;
    if (atomic_compare_exchange_strong_explicit(
            &mutex->bits, &expected, LOCKED, memory_order_acquire,
            memory_order_relaxed)) {
        return WOKEN;
    }
    return mutex_lock_slow(mutex, deadline, true, wants);
}

/* False where it was not locked; then nothing has changed. */
bool mutex_unlock_slow(struct mutex *);

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

/* Before this thread blocks: unlock what its sections have locked. */
void sections_suspend(void);
/* And lock again what the innermost one had. Keeps a raised exception. */
void sections_resume(void);

/* -- types ------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *weak_references;
    struct mutex mutex;
} MutexObject;

/* What the module keeps for each interpreter. */
struct module_state {
    PyTypeObject *context_type;   /* what __enter__ and __exit__ are */
    PyTypeObject *mutex_type;
    PyTypeObject *reader_type, *writer_type;
    PyTypeObject *section_type;
    PyTypeObject *rw_type;
    PyTypeObject *recursive_type;
    PyTypeObject *event_type, *once_type, *seq_type, *word_type;
    PyTypeObject *raw_type;
    PyObject *lock_status[3];     /* by number */
    PyObject *park_status[4];
    struct parking *parking;      /* what park() parks in */
};

struct module_state *module_state_of(PyObject *module);

int add_locks(PyObject *module);
int add_rw_mutex(PyObject *module);
int add_events(PyObject *module);
int add_seq_lock(PyObject *module);
int add_sections(PyObject *module);
int add_parking(PyObject *module);

/* Add a type to the module; `call` makes its instances their own __enter__
 * and __exit__. */
PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, bool is_context);

PyObject *refuse_copy(PyObject *self, PyObject *ignored);

/* An object that takes no arguments. */
int no_arguments(PyObject *self, PyObject *arguments, PyObject *keywords);
void free_object(PyObject *self);

#define REFUSE_COPIES \
    {"__copy__", refuse_copy, METH_NOARGS, NULL}, \
    {"__deepcopy__", refuse_copy, METH_O, NULL}, \
    {"__reduce__", refuse_copy, METH_NOARGS, NULL}, \
    {"__reduce_ex__", refuse_copy, METH_O, NULL}

#define KEYWORD_METHOD(function) \
    (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS

#endif
