/* The byte lock: what Mutex, RawMutex, RecursiveMutex and SeqLock wait for. */
#include "_native.h"

#ifndef _WIN32
#include <sched.h>
#endif

#ifdef Py_GIL_DISABLED
/* Looks at the byte before we sleep, where its holder may run meanwhile. */
enum { SPINS = 40 };
#else
enum { SPINS = 0 };
#endif

static void
mutex_gave_up(struct bucket *bucket, const void *key,
              struct wake_list *Py_UNUSED(woken))
{
    struct mutex *mutex = (struct mutex *)key;
    if (queue_find(&bucket->queue, key) == NULL) {
        atomic_fetch_and_explicit(&mutex->bits, (unsigned char)~PARKED,
                                  memory_order_relaxed);
    }
}

/* Wake the first that waits; called with the bucket locked and the mutex
 * free. Whoever has waited long enough gets the lock with the alarm. */
static void
mutex_grant(struct bucket *bucket, struct mutex *mutex,
            struct wake_list *woken)
{
    unsigned char bits = 0;
    struct waiter *waiter = queue_find(&bucket->queue, mutex);
    if (waiter != NULL) {
        if (queue_find_next(waiter) != NULL) {
            bits |= PARKED;
        }
        if (!mutex->is_unfair && may_hand_over()
            && monotonic_now() > waiter->fair_at) {
            waiter->is_handed = true;
            bits |= LOCKED;
        }
        claim(&bucket->queue, waiter, woken);
    }
    atomic_store_explicit(&mutex->bits, bits, memory_order_release);
}

bool
mutex_unlock_slow(struct mutex *mutex)
{
    struct wake_list woken = {NULL};
    struct bucket *bucket = bucket_lock(mutex);
    /* now that no other thread can unlock it */
    bool is_locked = mutex_is_locked(mutex);
    if (is_locked) {
        mutex_grant(bucket, mutex, &woken);
    }
    bucket_unlock(bucket);
    wake(&woken);
    if (!is_locked) {
        PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
    }
    return is_locked;
}

void
mutex_reset(struct mutex *mutex)
{
    atomic_store_explicit(&mutex->bits, 0, memory_order_release);
    bucket_wake_all(mutex);
}

/* A handler raised in a thread that was woken: the next one's turn. */
static void
mutex_pass_on(struct mutex *mutex, struct waiter *waiter)
{
    if (waiter->is_handed) {
        mutex_unlock(mutex);
        return;
    }
    struct wake_list woken = {NULL};
    struct bucket *bucket = bucket_lock(mutex);
    unsigned char bits = PARKED;
    /* locked by ourselves for a moment: newcomers go without the lot */
    if (atomic_compare_exchange_strong_explicit(
            &mutex->bits, &bits, LOCKED | PARKED, memory_order_acquire,
            memory_order_relaxed)) {
        mutex_grant(bucket, mutex, &woken);
    }
    bucket_unlock(bucket);
    wake(&woken);
}

/* Whether it became free while we looked at it for a moment. */
static bool
mutex_spin(struct mutex *mutex)
{
    for (int n = 0; n < SPINS; n++) {
        unsigned char bits = atomic_load_explicit(&mutex->bits,
                                                  memory_order_relaxed);
        if (bits & PARKED) {
            return false;
        }
        if (!(bits & LOCKED) && mutex_try(mutex)) {
            return true;
        }
#ifndef _WIN32
        sched_yield();
#endif
    }
    return false;
}

enum outcome
mutex_lock_slow(struct mutex *mutex, PyObject *object, nanoseconds deadline,
                bool heeds_signals)
{
    if (mutex_try(mutex)) {
        return DONE;
    }
    if (deadline == AT_ONCE) {
        return TIMED_OUT;
    }
    if (mutex_spin(mutex)) {
        return DONE;
    }
    struct waiter *waiter = waiter_take(mutex, object);
    if (waiter == NULL) {
        return INTERRUPTED;
    }
    waiter->gave_up = mutex_gave_up;
    enum outcome outcome = DONE;
    while (!mutex_try(mutex)) {
        struct bucket *bucket = bucket_lock(mutex);
        unsigned char bits = LOCKED;
        if (!atomic_compare_exchange_strong_explicit(
                &mutex->bits, &bits, LOCKED | PARKED, memory_order_relaxed,
                memory_order_relaxed)
            && bits != (LOCKED | PARKED)) {
            bucket_unlock(bucket);
            continue;
        }
        /* it stays so: with PARKED set, nobody unlocks without the bucket */
        bucket_enter(bucket, waiter);
        outcome = bucket_sleep(waiter, deadline, heeds_signals);
        if (outcome == INTERRUPTED && waiter->is_claimed) {
            mutex_pass_on(mutex, waiter);
        }
        if (outcome != DONE || waiter->is_handed) {
            break;
        }
    }
    if (!waiter_give_back(waiter)) {
        if (outcome == DONE) {
            mutex_unlock(mutex);
        }
        return INTERRUPTED;
    }
    return outcome;
}
