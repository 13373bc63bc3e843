/* Mutex and RawMutex: over one byte, the rest in the lot. */
#include "_native_shape.h"

static inline struct mutex *
word_of(PyObject *self)
{
    return &((struct mutex_object *)self)->mutex;
}

static bool
release(PyObject *self)
{
    return mutex_unlock(word_of(self));
}

static bool
is_locked(PyObject *self)
{
    return mutex_is_locked(word_of(self));
}

static PyObject *
at_fork_reinit(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    mutex_reset(word_of(self));
    Py_RETURN_NONE;
}

static PyObject *
repr(PyObject *self, const char *name)
{
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.%s object at %p>",
        is_locked(self) ? "locked" : "unlocked", name, self);
}

/* -- Mutex -------------------------------------------------------------------- */

static inline enum outcome
take(PyObject *object, nanoseconds deadline)
{
    struct mutex_object *self = (struct mutex_object *)object;
    enum outcome outcome = mutex_lock(&self->mutex, object, deadline);
    if (outcome == DONE) {
        atomic_store_explicit(&self->holder, PyThread_get_thread_ident(),
                              memory_order_relaxed);
    }
    return outcome;
}

static const struct lock_verbs mutex_verbs = {take, release, is_locked};

SHAPE_AS_LOCK(mutex)

static PyObject *
mutex_try_lock(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return outcome_as_bool(take(self, AT_ONCE));
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
    enum outcome outcome = take(self, deadline);
    struct module_state *state = PyType_GetModuleState(defining);
    if (outcome == INTERRUPTED || state == NULL) {
        return NULL;
    }
    return Py_NewRef(state->lock_status[outcome == DONE]);
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
mutex_repr(PyObject *self)
{
    return repr(self, "Mutex");
}

PyDoc_STRVAR(mutex_doc,
"Mutex()\n--\n\n"
"A lock of one byte that its waiters get in turn once they waited 1 ms.");

static PyMethodDef mutex_methods[] = {
    ACQUIRE_ROW(mutex, "acquire",
                "Take the lock and return True; False if it stayed taken."),
    RELEASE_ROW(mutex, "release"),
    LOCKED_ROW(mutex, "locked"),
    TIMED_ROW(mutex),
    LOCK_ROW(mutex),
    RELEASE_ROW(mutex, "unlock"),
    {"try_lock", mutex_try_lock, METH_NOARGS,
     PyDoc_STR("try_lock($self)\n--\n\nTake it if it is free.")},
    {"lock_timed", OF_CLASS(mutex_lock_timed),
     PyDoc_STR("lock_timed($self, timeout, flags=LockFlags.DETACH)\n--\n\n"
               "Take it within `timeout` seconds; None or negative: ever.")},
    LOCKED_ROW(mutex, "is_locked"),
    {"_holder", mutex_holder, METH_NOARGS, NULL},
    {"_at_fork_reinit", at_fork_reinit, METH_NOARGS, NULL},
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

static inline enum outcome
take_raw(PyObject *self, nanoseconds deadline)
{
    return mutex_lock(word_of(self), self, deadline);
}

static const struct lock_verbs raw_verbs = {take_raw, release, is_locked};

SHAPE_AS_LOCK(raw)

static PyObject *
raw_new_unfair(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *self = raw_new(type, arguments, keywords);
    if (self != NULL) {
        word_of(self)->is_unfair = true;
    }
    return self;
}

/* Without a timeout. */
static PyObject *
raw_acquire_only(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return take_raw(self, NEVER) == DONE ? Py_NewRef(Py_True) : NULL;
}

static PyObject *
raw_repr(PyObject *self)
{
    return repr(self, "RawMutex");
}

PyDoc_STRVAR(raw_doc,
"RawMutex()\n--\n\n"
"The cheapest lock: no timeout, no turns.");

static PyMethodDef raw_methods[] = {
    {"acquire", raw_acquire_only, METH_NOARGS,
     PyDoc_STR("acquire($self)\n--\n\nTake the lock and return True.")},
    RELEASE_ROW(raw, "release"),
    LOCKED_ROW(raw, "locked"),
    LOCK_ROW(raw),
    RELEASE_ROW(raw, "unlock"),
    {"_at_fork_reinit", at_fork_reinit, METH_NOARGS, NULL},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot raw_slots[] = {
    {Py_tp_doc, (char *)raw_doc},
    {Py_tp_new, raw_new_unfair},
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

int
add_mutexes(PyObject *module)
{
    struct module_state *state = module_state(module);
    return add_context_type(module, "Mutex", &mutex_spec, &state->mutex_type)
                       < 0
                   || add_context_type(module, "RawMutex", &raw_spec,
                                       &state->raw_type)
                          < 0
               ? -1
               : 0;
}
