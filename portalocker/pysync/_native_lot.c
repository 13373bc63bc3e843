/* The parking lot: queues of sleeping threads, found by address.
 *
 * After WebKit's WTF::ParkingLot. A lock is a word; whoever has to wait for
 * it stands in the queue of the word's bucket and sleeps on an alarm of its
 * own. Nothing of this is kept in the lock, so that a forked child has one
 * place to forget.
 */
#include "_native.h"

#include <stdlib.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <pthread.h>
#include <sched.h>
#include <time.h>
#endif

/* -- time ----------------------------------------------------------------- */

/* The longest time to sleep at once; what is longer sleeps again. */
static const nanoseconds LONGEST_SLEEP = 3600 * SECOND;

/* Rounded up: nobody gives up before its deadline. */
static long long
microseconds_until(nanoseconds deadline)
{
    if (deadline == NEVER) {
        return -1;
    }
    nanoseconds rest = deadline - monotonic_now();
    if (rest <= 0) {
        return 0;
    }
    return ((rest < LONGEST_SLEEP ? rest : LONGEST_SLEEP) + 999) / 1000;
}


/* -- queues ----------------------------------------------------------------- */

void
queue_append(struct queue *queue, struct waiter *waiter)
{
    waiter->next = NULL;
    waiter->previous = queue->last;
    if (queue->last == NULL) {
        queue->first = waiter;
    }
    else {
        queue->last->next = waiter;
    }
    queue->last = waiter;
}

void
queue_remove(struct queue *queue, struct waiter *waiter)
{
    if (waiter->previous == NULL) {
        queue->first = waiter->next;
    }
    else {
        waiter->previous->next = waiter->next;
    }
    if (waiter->next == NULL) {
        queue->last = waiter->previous;
    }
    else {
        waiter->next->previous = waiter->previous;
    }
    waiter->next = waiter->previous = NULL;
}

static struct waiter *
first_with(struct waiter *waiter, const void *key)
{
    while (waiter != NULL && waiter->key != key) {
        waiter = waiter->next;
    }
    return waiter;
}

struct waiter *
queue_find(const struct queue *queue, const void *key)
{
    return first_with(queue->first, key);
}

struct waiter *
queue_find_next(const struct waiter *waiter)
{
    return first_with(waiter->next, waiter->key);
}

void
claim(struct queue *queue, struct waiter *waiter, struct wake_list *woken)
{
    queue_remove(queue, waiter);
    waiter->is_claimed = true;
    waiter->next = woken->first;
    woken->first = waiter;
}

void
wake(struct wake_list *woken)
{
    while (woken->first != NULL) {
        struct waiter *waiter = woken->first;
        woken->first = waiter->next;
        /* its thread may give it back at once: touched no more */
        PyThread_type_lock alarm = waiter->alarm;
        HAPPENS_BEFORE(alarm);
        PyThread_release_lock(alarm);
    }
}

/* -- locks of the lot itself -------------------------------------------------- */

/* Tries before the processor is given away, and before we sleep: the holder
 * may be a thread of lower priority. */
enum { TRIES = 64, YIELDS = 64 };

static void
pause_a_while(unsigned attempt)
{
#ifdef _WIN32
    Sleep(attempt < YIELDS ? 0 : 1);
#else
    if (attempt < YIELDS) {
        sched_yield();
    }
    else {
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
#endif
}

void
spin_lock(struct spin_lock *lock)
{
    for (unsigned attempt = 0;; attempt++) {
        for (unsigned n = 0; n < TRIES; n++) {
            if (!atomic_load_explicit(&lock->is_held, memory_order_relaxed)
                && !atomic_exchange_explicit(&lock->is_held, true,
                                             memory_order_acquire)) {
                return;
            }
        }
        pause_a_while(attempt);
    }
}

void
spin_unlock(struct spin_lock *lock)
{
    atomic_store_explicit(&lock->is_held, false, memory_order_release);
}

/* -- waiters ------------------------------------------------------------------ */

/* Waiters that nobody uses. Never freed: who rang an alarm may be a little
 * late in leaving it. As many as threads have waited at once. */
static struct spin_lock spare_lock;
static struct waiter *spare_waiters;

struct waiter *
waiter_take(const void *key, PyObject *object)
{
    static _Atomic unsigned long long serials;
    if (callback_is_running()) {
        return NULL;
    }
    spin_lock(&spare_lock);
    struct waiter *waiter = spare_waiters;
    if (waiter != NULL) {
        spare_waiters = waiter->next;
    }
    spin_unlock(&spare_lock);
    if (waiter == NULL) {
        waiter = calloc(1, sizeof(*waiter));
        if (waiter != NULL) {
            waiter->alarm = PyThread_allocate_lock();
        }
        if (waiter == NULL || waiter->alarm == NULL) {
            free(waiter);
            PyErr_NoMemory();
            return NULL;
        }
        PyThread_acquire_lock(waiter->alarm, NOWAIT_LOCK);
    }
    *waiter = (struct waiter){
        .key = key,
        .alarm = waiter->alarm,
        .fair_at = monotonic_now() + FAIR_AFTER,
        .generation = fork_generation(),
        .object = object,
        .interpreter = PyInterpreterState_Get(),
        .thread = PyThread_get_thread_ident(),
        .serial = atomic_fetch_add_explicit(&serials, 1,
                                            memory_order_relaxed),
    };
    return waiter;
}

bool
waiter_give_back(struct waiter *waiter)
{
    struct cs_thread *sections = waiter->sections;
    spin_lock(&spare_lock);
    waiter->next = spare_waiters;
    spare_waiters = waiter;
    spin_unlock(&spare_lock);
    return sections == NULL || sections_resume(sections);
}

/* -- buckets ------------------------------------------------------------------ */

enum { BUCKETS = 257 };

/* alone on its cache line */
static union {
    struct bucket bucket;
    char line[64];
} buckets[BUCKETS];

static struct bucket *
bucket_of(const void *key)
{
    return &buckets[((uintptr_t)key >> 4) % BUCKETS].bucket;
}

struct bucket *
bucket_lock(const void *key)
{
    struct bucket *bucket = bucket_of(key);
    spin_lock(&bucket->lock);
    return bucket;
}

void
bucket_unlock(struct bucket *bucket)
{
    spin_unlock(&bucket->lock);
}

/* Leave the queue. Who is claimed waits for its alarm instead: false. Needs
 * no interpreter's lock. */
static bool
bucket_leave(struct waiter *waiter)
{
    struct wake_list woken = {NULL};
    struct bucket *bucket = bucket_lock(waiter->key);
    bool is_claimed = waiter->is_claimed;
    if (!is_claimed) {
        if (waiter->generation == fork_generation()) {
            queue_remove(&bucket->queue, waiter);
        }
        if (waiter->gave_up != NULL) {
            waiter->gave_up(bucket, waiter->key, &woken);
        }
    }
    bucket_unlock(bucket);
    wake(&woken);
    if (is_claimed) {
        PyThread_acquire_lock(waiter->alarm, WAIT_LOCK);
        HAPPENS_AFTER(waiter->alarm);
    }
    return !is_claimed;
}

void
bucket_enter(struct bucket *bucket, struct waiter *waiter)
{
    waiter->is_claimed = waiter->is_handed = false;
    waiter->generation = fork_generation();
    queue_append(&bucket->queue, waiter);
    bucket_unlock(bucket);
}

enum outcome
bucket_sleep(struct waiter *waiter, nanoseconds deadline, bool heeds_signals)
{
    for (;;) {
        bool has_left = false;
        /* each time: a signal's handler may have ended a section in which
         * it was, and so resumed one of ours */
        waiter->sections = sections_suspend();
        PyThreadState *self = PyEval_SaveThread();
        PyLockStatus status = PyThread_acquire_lock_timed(
            waiter->alarm, microseconds_until(deadline), heeds_signals);
        if (status == PY_LOCK_ACQUIRED) {
            HAPPENS_AFTER(waiter->alarm);
        }
        bool is_late = status != PY_LOCK_ACQUIRED && deadline != NEVER
                       && monotonic_now() >= deadline;
        if (is_late) {
            /* before the interpreter's lock: it may never come again, and
             * nobody must be claimed who will not wake up */
            has_left = bucket_leave(waiter);
        }
        PyEval_RestoreThread(self);
        if (status == PY_LOCK_ACQUIRED) {
            return DONE;
        }
        if (is_late) {
            return has_left ? TIMED_OUT : DONE;
        }
        if (status == PY_LOCK_INTR && PyErr_CheckSignals() < 0) {
            /* whoever claimed us may need the interpreter's lock to get as
             * far as the alarm: a callback of unpark() */
            Py_BEGIN_ALLOW_THREADS
            bucket_leave(waiter);
            Py_END_ALLOW_THREADS
            return INTERRUPTED;
        }
        if (waiter->generation != fork_generation()) {
            /* the handler forked: a child's queue is empty, look again */
            return DONE;
        }
    }
}

void
bucket_wake_all(const void *key)
{
    struct wake_list woken = {NULL};
    struct bucket *bucket = bucket_lock(key);
    struct waiter *waiter = queue_find(&bucket->queue, key);
    while (waiter != NULL) {
        struct waiter *next = queue_find_next(waiter);
        claim(&bucket->queue, waiter, &woken);
        waiter = next;
    }
    bucket_unlock(bucket);
    wake(&woken);
}

/* A wait as it was under the bucket's lock. */
struct seen_wait {
    unsigned long thread;
    unsigned long long serial;
    PyObject *object;
};

/* Look at one bucket: nothing can be allocated while it is locked. */
static size_t
see_waits(struct bucket *bucket, struct seen_wait *seen, size_t size)
{
    size_t count = 0;
    spin_lock(&bucket->lock);
    struct waiter *waiter = bucket->queue.first;
    for (; waiter != NULL; waiter = waiter->next) {
        if (waiter->object == NULL
            || waiter->interpreter != PyInterpreterState_Get()) {
            continue;
        }
        if (count < size) {
            seen[count] = (struct seen_wait){
                waiter->thread, waiter->serial, Py_NewRef(waiter->object)};
        }
        count++;
    }
    spin_unlock(&bucket->lock);
    return count;
}

static int
append_wait(PyObject *list, const struct seen_wait *seen)
{
    PyObject *wait = Py_BuildValue("(kKO)", seen->thread, seen->serial,
                                   seen->object);
    if (wait == NULL) {
        return -1;
    }
    int failed = PyList_Append(list, wait);
    Py_DECREF(wait);
    return failed;
}

/* Append the waits of one bucket; what comes while it is looked at may be
 * left out. */
static int
append_waits(PyObject *list, struct bucket *bucket)
{
    size_t size = see_waits(bucket, NULL, 0);
    if (size == 0) {
        return 0;
    }
    struct seen_wait *seen = PyMem_Calloc(size, sizeof(*seen));
    if (seen == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    size_t count = see_waits(bucket, seen, size);
    int failed = 0;
    for (size_t n = 0; n < size && n < count; n++) {
        failed = failed || append_wait(list, &seen[n]) < 0;
        Py_DECREF(seen[n].object);
    }
    PyMem_Free(seen);
    return failed ? -1 : 0;
}

PyObject *
lot_waits(void)
{
    PyObject *list = PyList_New(0);
    for (int n = 0; list != NULL && n < BUCKETS; n++) {
        if (append_waits(list, &buckets[n].bucket) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* -- fork --------------------------------------------------------------------- */

static atomic_uint forks;
static _Atomic unsigned long survivor;

unsigned
fork_generation(void)
{
    return atomic_load_explicit(&forks, memory_order_relaxed);
}

unsigned long
fork_survivor(void)
{
    return atomic_load_explicit(&survivor, memory_order_relaxed);
}

static void
lot_after_fork(void)
{
    /* no lock is taken: its holder may have stayed behind */
    for (int n = 0; n < BUCKETS; n++) {
        struct bucket *bucket = &buckets[n].bucket;
        bucket->queue = (struct queue){NULL, NULL};
        spin_unlock(&bucket->lock);
    }
    spare_waiters = NULL;
    spin_unlock(&spare_lock);
    callbacks_after_fork();
    atomic_store_explicit(&survivor, PyThread_get_thread_ident(),
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

/* -- the end ------------------------------------------------------------------ */

/* Daemon threads that sleep when the interpreter ends never run again, and
 * its last destructors would wait for ever for what is handed to one. */
static atomic_bool is_ending;

bool
may_hand_over(void)
{
    return !atomic_load_explicit(&is_ending, memory_order_relaxed);
}

static PyObject *
end(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    atomic_store_explicit(&is_ending, true, memory_order_relaxed);
    Py_RETURN_NONE;
}

/* The other interpreters end with no thread but their last. */
static int
await_end(void)
{
    static PyMethodDef method = {"end", end, METH_NOARGS, NULL};
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        return 0;
    }
    atomic_store_explicit(&is_ending, false, memory_order_relaxed);
    PyObject *exits = PyImport_ImportModule("atexit");
    PyObject *function = exits == NULL ? NULL : PyCFunction_New(&method, NULL);
    PyObject *result
        = function == NULL
              ? NULL
              : PyObject_CallMethod(exits, "register", "O", function);
    Py_XDECREF(result);
    Py_XDECREF(function);
    Py_XDECREF(exits);
    return result == NULL ? -1 : 0;
}

int
lot_initialize(void)
{
    static atomic_bool is_registered;
#ifndef _WIN32
    /* inside fork(), before anything else runs in the child */
    if (!atomic_exchange(&is_registered, true)
        && pthread_atfork(NULL, NULL, lot_after_fork) != 0) {
        PyErr_SetString(PyExc_OSError, "cannot register for fork()");
        return -1;
    }
#endif
    return await_end();
}
