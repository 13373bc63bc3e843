/* The word of an RWMutex: who waits, and whose turn it is. */
#include "_native_rw_word.h"

/* About what a hand-over costs, two switches of threads: less, and short
 * sections go at its pace; more, and long ones wait for nothing. */
#define OVERTAKEN_FOR (MILLISECOND / 10)

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
    rw_bits bits = rw_load(rw);
    while (!rw_replace(rw, &bits, ((bits & ~(rw_bits)WAITED) + came) | waited)) {
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
    if (!(rw_load(rw) & WRITTEN)) {
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
    rw_bits bits = rw_load(rw);
    for (;;) {
        bool is_free
            = !(bits & WRITTEN) && !(as_writer && rw_is_read(bits));
        if (!is_free || is_waited) {
            if (!will_wait || rw_replace(rw, &bits, bits | WAITED)) {
                return false;
            }
        }
        else if (rw_replace(rw, &bits,
                         (bits & ~(rw_bits)WAITED)
                             + (as_writer ? WRITTEN : READER))) {
            return true;
        }
    }
}

enum outcome
rw_lock_slow(struct rw_word *rw, PyObject *object, nanoseconds deadline,
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
            as_writer ? rw_unlock_write(rw) : rw_unlock_read(rw);
        }
    } while (outcome == DONE && !waiter->is_handed);
    if (!waiter_give_back(waiter)) {
        if (outcome == DONE) {
            as_writer ? rw_unlock_write(rw) : rw_unlock_read(rw);
        }
        return INTERRUPTED;
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
    rw_bits bits = rw_load(rw);
    while (rw_is_read(bits) && !rw_replace(rw, &bits, bits - READER)) {
    }
    if (bits == (READER | WAITED)) {
        grant(bucket, rw, false, &woken);
    }
    bucket_unlock(bucket);
    wake(&woken);
    return rw_is_read(bits) || refuse_unlock();
}

bool
rw_unlock_read(struct rw_word *rw)
{
    rw_bits bits = rw_load(rw);
    for (;;) {
        if (!rw_is_read(bits)) {
            return refuse_unlock();
        }
        if (bits == (READER | WAITED)) {
            return unlock_read_slow(rw);
        }
        if (rw_replace(rw, &bits, bits - READER)) {
            return true;
        }
    }
}

bool
rw_unlock_write(struct rw_word *rw)
{
    rw_bits bits = WRITTEN;
    if (rw_replace(rw, &bits, 0)) {
        return true;
    }
    if (!(bits & WRITTEN)) {
        return refuse_unlock();
    }
    struct wake_list woken = {NULL};
    struct bucket *bucket = bucket_lock(rw);
    bool is_written = rw_load(rw) & WRITTEN;
    if (is_written) {
        atomic_store_explicit(&rw->bits, WAITED, memory_order_release);
        grant(bucket, rw, true, &woken);
    }
    bucket_unlock(bucket);
    wake(&woken);
    return is_written || refuse_unlock();
}

bool
rw_downgrade(struct rw_word *rw)
{
    rw_bits bits = WRITTEN;
    if (rw_replace(rw, &bits, READER)) {
        return true;
    }
    if (!(bits & WRITTEN)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot downgrade: no writer holds the lock");
        return false;
    }
    struct wake_list woken = {NULL};
    struct bucket *bucket = bucket_lock(rw);
    bits = rw_load(rw);
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

void
rw_reset(struct rw_word *rw)
{
    atomic_store_explicit(&rw->bits, 0, memory_order_release);
    bucket_wake_all(rw);
}
