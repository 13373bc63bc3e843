/* Mutex, RawMutex and RecursiveMutex: over one byte, the rest in the lot. */
#include "_native.h"

#ifndef _WIN32
#include <sched.h>
#endif

/* -- the byte lock ---------------------------------------------------------- */

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

/* -- Mutex -------------------------------------------------------------------- */

static inline enum outcome
lock_mutex(struct mutex_object *self, nanoseconds deadline)
{
    enum outcome outcome = mutex_lock(&self->mutex, (PyObject *)self,
                                      deadline);
    if (outcome == DONE) {
        atomic_store_explicit(&self->holder, PyThread_get_thread_ident(),
                              memory_order_relaxed);
    }
    return outcome;
}

static PyObject *
mutex_call(PyObject *object, PyObject *const *Py_UNUSED(arguments),
           size_t count, PyObject *keywords)
{
    struct mutex_object *self = (struct mutex_object *)object;
    switch (context_call(count, keywords)) {
    case ENTERS:
        return lock_mutex(self, NEVER) == DONE ? Py_NewRef(Py_True) : NULL;
    case EXITS:
        return none_if(mutex_unlock(&self->mutex));
    default:
        return NULL;
    }
}

static PyObject *
mutex_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    return new_context(type, arguments, keywords, mutex_call);
}

static PyObject *
mutex_acquire(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
              PyObject *keywords)
{
    nanoseconds deadline = NEVER;
    if ((count != 0 || keywords != NULL)
        && !deadline_of_acquire(arguments, count, keywords, &deadline)) {
        return NULL;
    }
    return outcome_as_bool(lock_mutex((struct mutex_object *)self, deadline));
}

static PyObject *
mutex_lock_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(lock_mutex((struct mutex_object *)self, NEVER) == DONE);
}

static PyObject *
mutex_try_lock(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return outcome_as_bool(lock_mutex((struct mutex_object *)self, AT_ONCE));
}

static PyObject *
mutex_lock_timed(PyObject *self, PyTypeObject *defining,
                 PyObject *const *arguments, Py_ssize_t count,
                 PyObject *keywords)
{
    static const char *const names[] = {"timeout", "flags", NULL};
    PyObject *values[2];
    nanoseconds deadline;
    if (!take_arguments("lock_timed", names, 1, arguments, count, keywords,
                        values)
        || !deadline_of_timeout(values[0], &deadline)) {
        return NULL;
    }
    enum outcome outcome = lock_mutex((struct mutex_object *)self, deadline);
    struct module_state *state = PyType_GetModuleState(defining);
    if (outcome == INTERRUPTED || state == NULL) {
        return NULL;
    }
    return Py_NewRef(state->lock_status[outcome == DONE]);
}

static PyObject *
mutex_release(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(mutex_unlock(&((struct mutex_object *)self)->mutex));
}

static PyObject *
mutex_locked(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(
        mutex_is_locked(&((struct mutex_object *)self)->mutex));
}

static PyObject *
mutex_holder(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct mutex_object *self = (struct mutex_object *)object;
    return PyLong_FromUnsignedLong(
        mutex_is_locked(&self->mutex)
            ? atomic_load_explicit(&self->holder, memory_order_relaxed)
            : 0);
}

static PyObject *
mutex_at_fork_reinit(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    mutex_reset(&((struct mutex_object *)self)->mutex);
    Py_RETURN_NONE;
}

static enum outcome
mutex_timed_acquire(PyObject *self, nanoseconds deadline)
{
    return lock_mutex((struct mutex_object *)self, deadline);
}

static bool
mutex_timed_release(PyObject *self)
{
    return mutex_unlock(&((struct mutex_object *)self)->mutex);
}

static PyObject *
mutex_timed(PyObject *self, PyTypeObject *defining,
            PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    static const struct timed_verbs verbs
        = {mutex_timed_acquire, mutex_timed_release};
    return new_timed(defining, self, &verbs, arguments, count, keywords);
}

static PyObject *
mutex_repr(PyObject *self)
{
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.Mutex object at %p>",
        mutex_is_locked(&((struct mutex_object *)self)->mutex) ? "locked"
                                                       : "unlocked",
        self);
}

PyDoc_STRVAR(mutex_doc,
"Mutex()\n--\n\n"
"A lock of one byte that its waiters get in turn once they waited 1 ms.");

static PyMethodDef mutex_methods[] = {
    {"acquire", KEYWORDS(mutex_acquire),
     PyDoc_STR("acquire($self, blocking=True, timeout=-1)\n--\n\n"
               "Take the lock and return True; False if it stayed taken.")},
    {"release", mutex_release, METH_NOARGS,
     PyDoc_STR("release($self)\n--\n\n"
               "Let go; any thread may. RuntimeError if it is not locked.")},
    {"locked", mutex_locked, METH_NOARGS,
     PyDoc_STR("locked($self)\n--\n\nSay whether anybody holds it.")},
    {"timed", OF_CLASS(mutex_timed),
     PyDoc_STR("timed($self, seconds)\n--\n\n"
               "For `with`: TimeoutError if it stays taken so long.")},
    {"lock", mutex_lock_method, METH_NOARGS,
     PyDoc_STR("lock($self)\n--\n\nTake the lock, however long it takes.")},
    {"unlock", mutex_release, METH_NOARGS,
     PyDoc_STR("unlock($self)\n--\n\n"
               "Let go; any thread may. RuntimeError if it is not locked.")},
    {"try_lock", mutex_try_lock, METH_NOARGS,
     PyDoc_STR("try_lock($self)\n--\n\nTake it if it is free.")},
    {"lock_timed", OF_CLASS(mutex_lock_timed),
     PyDoc_STR("lock_timed($self, timeout, flags=LockFlags.DETACH)\n--\n\n"
               "Take it within `timeout` seconds; None or negative: ever.")},
    {"is_locked", mutex_locked, METH_NOARGS,
     PyDoc_STR("is_locked($self)\n--\n\nSay whether anybody holds it.")},
    {"_holder", mutex_holder, METH_NOARGS, NULL},
    {"_at_fork_reinit", mutex_at_fork_reinit, METH_NOARGS, NULL},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mutex_slots[] = {
    {Py_tp_doc, (char *)mutex_doc},
    {Py_tp_new, mutex_new},
    {Py_tp_dealloc, free_object},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, mutex_repr},
    {Py_tp_members, context_members},
    {Py_tp_methods, mutex_methods},
    {0, NULL},
};

static PyType_Spec mutex_spec = {
    .name = "portalocker.pysync.Mutex",
    .basicsize = sizeof(struct mutex_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = mutex_slots,
};

/* -- RawMutex ----------------------------------------------------------------- */

static inline bool
lock_raw(struct mutex_object *self)
{
    return mutex_lock(&self->mutex, (PyObject *)self, NEVER) == DONE;
}

static PyObject *
raw_call(PyObject *object, PyObject *const *Py_UNUSED(arguments),
         size_t count, PyObject *keywords)
{
    struct mutex_object *self = (struct mutex_object *)object;
    switch (context_call(count, keywords)) {
    case ENTERS:
        return lock_raw(self) ? Py_NewRef(Py_True) : NULL;
    case EXITS:
        return none_if(mutex_unlock(&self->mutex));
    default:
        return NULL;
    }
}

static PyObject *
raw_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *self = new_context(type, arguments, keywords, raw_call);
    if (self != NULL) {
        ((struct mutex_object *)self)->mutex.is_unfair = true;
    }
    return self;
}

static PyObject *
raw_acquire(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lock_raw((struct mutex_object *)self) ? Py_NewRef(Py_True) : NULL;
}

static PyObject *
raw_lock(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(lock_raw((struct mutex_object *)self));
}

static PyObject *
raw_repr(PyObject *self)
{
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.RawMutex object at %p>",
        mutex_is_locked(&((struct mutex_object *)self)->mutex) ? "locked"
                                                               : "unlocked",
        self);
}

PyDoc_STRVAR(raw_doc,
"RawMutex()\n--\n\n"
"The cheapest lock: no timeout, no turns.");

static PyMethodDef raw_methods[] = {
    {"acquire", raw_acquire, METH_NOARGS,
     PyDoc_STR("acquire($self)\n--\n\nTake the lock and return True.")},
    {"release", mutex_release, METH_NOARGS,
     PyDoc_STR("release($self)\n--\n\n"
               "Let go; any thread may. RuntimeError if it is not locked.")},
    {"locked", mutex_locked, METH_NOARGS,
     PyDoc_STR("locked($self)\n--\n\nSay whether anybody holds it.")},
    {"lock", raw_lock, METH_NOARGS,
     PyDoc_STR("lock($self)\n--\n\nTake the lock.")},
    {"unlock", mutex_release, METH_NOARGS,
     PyDoc_STR("unlock($self)\n--\n\n"
               "Let go; any thread may. RuntimeError if it is not locked.")},
    {"_at_fork_reinit", mutex_at_fork_reinit, METH_NOARGS, NULL},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot raw_slots[] = {
    {Py_tp_doc, (char *)raw_doc},
    {Py_tp_new, raw_new},
    {Py_tp_dealloc, free_object},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, raw_repr},
    {Py_tp_members, context_members},
    {Py_tp_methods, raw_methods},
    {0, NULL},
};

static PyType_Spec raw_spec = {
    .name = "portalocker.pysync.RawMutex",
    .basicsize = sizeof(struct mutex_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = raw_slots,
};

/* -- RecursiveMutex ------------------------------------------------------------- */

struct recursive_object {
    OBJECT_HEAD
    struct mutex mutex;
    /* 0: free. Only the owner's own thread can find itself here. */
    _Atomic unsigned long owner;
    /* of locks not yet unlocked; written by the owner */
    _Atomic unsigned long count;
};
ASSERT_WORD_FIRST(struct recursive_object, mutex);

static inline unsigned long
owner_of(struct recursive_object *self)
{
    return atomic_load_explicit(&self->owner, memory_order_relaxed);
}

static inline void
set_owner(struct recursive_object *self, unsigned long owner)
{
    atomic_store_explicit(&self->owner, owner, memory_order_relaxed);
}

static inline unsigned long
count_of(struct recursive_object *self)
{
    return atomic_load_explicit(&self->count, memory_order_relaxed);
}

static inline void
set_count(struct recursive_object *self, unsigned long count)
{
    atomic_store_explicit(&self->count, count, memory_order_relaxed);
}

static enum outcome
lock_recursive(struct recursive_object *self, nanoseconds deadline)
{
    unsigned long me = PyThread_get_thread_ident();
    if (owner_of(self) == me) {
        unsigned long count = count_of(self);
        if (count == ULONG_MAX) {
            PyErr_SetString(PyExc_OverflowError,
                            "cannot lock: locked too often");
            return INTERRUPTED;
        }
        set_count(self, count + 1);
        return DONE;
    }
    enum outcome outcome = mutex_lock(&self->mutex, (PyObject *)self,
                                      deadline);
    if (outcome == DONE) {
        set_owner(self, me);
        set_count(self, 1);
    }
    return outcome;
}

static bool
is_owned(struct recursive_object *self)
{
    return owner_of(self) == PyThread_get_thread_ident();
}

/* Give all back; false with RuntimeError, and still ours. */
static bool
disown(struct recursive_object *self)
{
    unsigned long me = owner_of(self);
    set_owner(self, 0);
    if (!mutex_unlock(&self->mutex)) {
        set_owner(self, me);
        return false;
    }
    return true;
}

static bool
is_owned_or_error(struct recursive_object *self)
{
    if (is_owned(self)) {
        return true;
    }
    PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
    return false;
}

static bool
unlock_recursive(struct recursive_object *self)
{
    if (!is_owned_or_error(self)) {
        return false;
    }
    unsigned long count = count_of(self);
    if (count > 1) {
        set_count(self, count - 1);
        return true;
    }
    return disown(self);
}

static PyObject *
recursive_call(PyObject *object, PyObject *const *Py_UNUSED(arguments),
               size_t count, PyObject *keywords)
{
    struct recursive_object *self = (struct recursive_object *)object;
    switch (context_call(count, keywords)) {
    case ENTERS:
        return lock_recursive(self, NEVER) == DONE ? Py_NewRef(Py_True)
                                                   : NULL;
    case EXITS:
        return none_if(unlock_recursive(self));
    default:
        return NULL;
    }
}

static PyObject *
recursive_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    return new_context(type, arguments, keywords, recursive_call);
}

static PyObject *
recursive_acquire(PyObject *self, PyObject *const *arguments,
                  Py_ssize_t count, PyObject *keywords)
{
    nanoseconds deadline = NEVER;
    if ((count != 0 || keywords != NULL)
        && !deadline_of_acquire(arguments, count, keywords, &deadline)) {
        return NULL;
    }
    return outcome_as_bool(
        lock_recursive((struct recursive_object *)self, deadline));
}

static PyObject *
recursive_lock(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(lock_recursive((struct recursive_object *)self, NEVER)
                   == DONE);
}

static PyObject *
recursive_release(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(unlock_recursive((struct recursive_object *)self));
}

static PyObject *
recursive_locked(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(
        mutex_is_locked(&((struct recursive_object *)self)->mutex));
}

static PyObject *
recursive_is_locked_by(PyObject *self, PyObject *const *arguments,
                       Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"ident", NULL};
    PyObject *ident;
    if (!take_arguments("is_locked_by", names, 0, arguments, count, keywords,
                        &ident)) {
        return NULL;
    }
    unsigned long thread = PyThread_get_thread_ident();
    if (ident != NULL && ident != Py_None) {
        thread = PyLong_AsUnsignedLong(ident);
        if (thread == (unsigned long)-1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    return PyBool_FromLong(
        thread != 0 && owner_of((struct recursive_object *)self) == thread);
}

static PyObject *
recursive_is_owned(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(is_owned((struct recursive_object *)self));
}

static PyObject *
recursive_holder(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(
        owner_of((struct recursive_object *)self));
}

static PyObject *
recursive_count(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct recursive_object *self = (struct recursive_object *)object;
    return PyLong_FromUnsignedLong(is_owned(self) ? count_of(self) : 0);
}

static PyObject *
recursive_release_save(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct recursive_object *self = (struct recursive_object *)object;
    if (!is_owned_or_error(self)) {
        return NULL;
    }
    PyObject *saved = Py_BuildValue("(kk)", count_of(self), owner_of(self));
    if (saved != NULL && !disown(self)) {
        Py_CLEAR(saved);
    }
    return saved;
}

static PyObject *
recursive_acquire_restore(PyObject *object, PyObject *saved)
{
    struct recursive_object *self = (struct recursive_object *)object;
    unsigned long count, owner;
    if (!PyTuple_Check(saved)) {
        PyErr_SetString(PyExc_TypeError,
                        "_acquire_restore() takes what _release_save() gave");
        return NULL;
    }
    if (!PyArg_ParseTuple(saved, "kk:_acquire_restore", &count, &owner)) {
        return NULL;
    }
    /* as threading has it, no signal's handler ends this */
    if (mutex_lock_slow(&self->mutex, object, NEVER, false) != DONE) {
        return NULL;
    }
    set_owner(self, owner);
    set_count(self, count);
    Py_RETURN_NONE;
}

static PyObject *
recursive_at_fork_reinit(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct recursive_object *self = (struct recursive_object *)object;
    set_owner(self, 0);
    set_count(self, 0);
    mutex_reset(&self->mutex);
    Py_RETURN_NONE;
}

static enum outcome
recursive_timed_acquire(PyObject *self, nanoseconds deadline)
{
    return lock_recursive((struct recursive_object *)self, deadline);
}

static bool
recursive_timed_release(PyObject *self)
{
    return unlock_recursive((struct recursive_object *)self);
}

static PyObject *
recursive_timed(PyObject *self, PyTypeObject *defining,
                PyObject *const *arguments, Py_ssize_t count,
                PyObject *keywords)
{
    static const struct timed_verbs verbs
        = {recursive_timed_acquire, recursive_timed_release};
    return new_timed(defining, self, &verbs, arguments, count, keywords);
}

static PyObject *
recursive_repr(PyObject *object)
{
    struct recursive_object *self = (struct recursive_object *)object;
    bool is_locked = mutex_is_locked(&self->mutex);
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.RecursiveMutex object owner=%lu count=%lu "
        "at %p>",
        is_locked ? "locked" : "unlocked", owner_of(self),
        is_locked ? count_of(self) : 0, self);
}

PyDoc_STRVAR(recursive_doc,
"RecursiveMutex()\n--\n\n"
"A mutex that its owner may lock again; it unlocks as often.");

static PyMethodDef recursive_methods[] = {
    {"acquire", KEYWORDS(recursive_acquire),
     PyDoc_STR("acquire($self, blocking=True, timeout=-1)\n--\n\n"
               "Take it, once more if it is ours, and return True; False if "
               "it stayed taken.")},
    {"release", recursive_release, METH_NOARGS,
     PyDoc_STR("release($self)\n--\n\n"
               "Let go once. RuntimeError if it is not ours.")},
    {"locked", recursive_locked, METH_NOARGS,
     PyDoc_STR("locked($self)\n--\n\nSay whether anybody holds it.")},
    {"timed", OF_CLASS(recursive_timed),
     PyDoc_STR("timed($self, seconds)\n--\n\n"
               "For `with`: TimeoutError if it stays taken so long.")},
    {"lock", recursive_lock, METH_NOARGS,
     PyDoc_STR("lock($self)\n--\n\nTake it, however long it takes.")},
    {"unlock", recursive_release, METH_NOARGS,
     PyDoc_STR("unlock($self)\n--\n\n"
               "Let go once. RuntimeError if it is not ours.")},
    {"is_locked", recursive_locked, METH_NOARGS,
     PyDoc_STR("is_locked($self)\n--\n\nSay whether anybody holds it.")},
    {"is_locked_by", KEYWORDS(recursive_is_locked_by),
     PyDoc_STR("is_locked_by($self, ident=None)\n--\n\n"
               "Say whether thread `ident`, else this one, holds it.")},
    {"_holder", recursive_holder, METH_NOARGS, NULL},
    {"_is_owned", recursive_is_owned, METH_NOARGS, NULL},
    {"_recursion_count", recursive_count, METH_NOARGS, NULL},
    {"_release_save", recursive_release_save, METH_NOARGS, NULL},
    {"_acquire_restore", recursive_acquire_restore, METH_O, NULL},
    {"_at_fork_reinit", recursive_at_fork_reinit, METH_NOARGS, NULL},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot recursive_slots[] = {
    {Py_tp_doc, (char *)recursive_doc},
    {Py_tp_new, recursive_new},
    {Py_tp_dealloc, free_object},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, recursive_repr},
    {Py_tp_members, context_members},
    {Py_tp_methods, recursive_methods},
    {0, NULL},
};

static PyType_Spec recursive_spec = {
    .name = "portalocker.pysync.RecursiveMutex",
    .basicsize = sizeof(struct recursive_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = recursive_slots,
};

int
add_locks(PyObject *module)
{
    return add_context_type(module, "Mutex", &mutex_spec,
                            &module_state(module)->mutex_type)
                       < 0
                   || add_context_type(module, "RawMutex", &raw_spec,
                                       &module_state(module)->raw_type)
                          < 0
                   || add_context_type(module, "RecursiveMutex",
                                       &recursive_spec,
                                       &module_state(module)->recursive_type)
                          < 0
               ? -1
               : 0;
}
