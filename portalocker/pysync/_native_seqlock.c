/* SeqLock: readers look whether a writer came between, instead of locking. */
#include "_native.h"

/* sequence | meaning
 * even     | nobody writes
 * odd      | a writer is at it; it holds the mutex
 *
 * 64 bits: no reader sleeps through all of them. */
struct seq_object {
    OBJECT_HEAD
    struct mutex mutex;
    _Atomic uint_least64_t sequence;
    _Atomic unsigned long holder; /* of the mutex; 0: nobody */
};
ASSERT_WORD_FIRST(struct seq_object, mutex);

static inline struct seq_object *
as_seq(PyObject *self)
{
    return (struct seq_object *)self;
}

static inline bool
is_odd(uint_least64_t sequence)
{
    return sequence & 1;
}

static void
set_holder(struct seq_object *self, unsigned long thread)
{
    atomic_store_explicit(&self->holder, thread, memory_order_relaxed);
}

static bool
take_mutex(struct seq_object *self)
{
    if (mutex_lock(&self->mutex, (PyObject *)self, NEVER) != DONE) {
        return false;
    }
    set_holder(self, PyThread_get_thread_ident());
    return true;
}

static bool
begin_write(struct seq_object *self)
{
    if (!take_mutex(self)) {
        return false;
    }
    atomic_fetch_add_explicit(&self->sequence, 1, memory_order_relaxed);
    /* no write before the odd number */
    atomic_thread_fence(memory_order_release);
    return true;
}

/* Make the sequence even again, by +1 (published) or -1 (nothing happened). */
static bool
end_write(struct seq_object *self, int step)
{
    uint_least64_t sequence
        = atomic_load_explicit(&self->sequence, memory_order_relaxed);
    if (!is_odd(sequence)
        || !atomic_compare_exchange_strong_explicit(
            &self->sequence, &sequence, sequence + (uint_least64_t)step,
            memory_order_release, memory_order_relaxed)) {
        PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
        return false;
    }
    set_holder(self, 0);
    return mutex_unlock(&self->mutex);
}

static PyObject *
seq_lock_write(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(begin_write(as_seq(self)));
}

static PyObject *
seq_unlock_write(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(end_write(as_seq(self), 1));
}

static PyObject *
seq_abandon_write(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(end_write(as_seq(self), -1));
}

static PyObject *
seq_begin_read(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct seq_object *self = as_seq(object);
    uint_least64_t sequence
        = atomic_load_explicit(&self->sequence, memory_order_acquire);
    if (is_odd(sequence)) {
        if (atomic_load_explicit(&self->holder, memory_order_relaxed)
            == PyThread_get_thread_ident()) {
            PyErr_SetString(
                PyExc_RuntimeError,
                "cannot read: this thread itself is writing");
            return NULL;
        }
        if (!take_mutex(self)) {
            return NULL;
        }
        sequence
            = atomic_load_explicit(&self->sequence, memory_order_acquire);
        set_holder(self, 0);
        if (!mutex_unlock(&self->mutex)) {
            return NULL;
        }
    }
    return PyLong_FromUnsignedLongLong(sequence);
}

static PyObject *
seq_end_read(PyObject *object, PyObject *token)
{
    unsigned long long before = PyLong_AsUnsignedLongLong(token);
    if (before == (unsigned long long)-1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return NULL;
        }
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    /* no read after the second look */
    atomic_thread_fence(memory_order_acquire);
    return PyBool_FromLong(
        atomic_load_explicit(&as_seq(object)->sequence, memory_order_relaxed)
        == before);
}

static PyObject *
seq_after_fork(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct seq_object *self = as_seq(object);
    uint_least64_t sequence
        = atomic_load_explicit(&self->sequence, memory_order_relaxed);
    if (is_odd(sequence)) {
        /* larger than any token: what was read before is not trusted */
        atomic_store_explicit(&self->sequence, sequence + 1,
                              memory_order_release);
    }
    set_holder(self, 0);
    mutex_reset(&self->mutex);
    return PyBool_FromLong(is_odd(sequence));
}

static PyObject *
seq_lock_read(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(take_mutex(as_seq(self)));
}

static PyObject *
seq_unlock_read(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct seq_object *self = as_seq(object);
    if (is_odd(atomic_load_explicit(&self->sequence, memory_order_relaxed))) {
        PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
        return NULL;
    }
    set_holder(self, 0);
    return none_if(mutex_unlock(&self->mutex));
}

static PyObject *
seq_holder(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(
        atomic_load_explicit(&as_seq(self)->holder, memory_order_relaxed));
}

static PyObject *
seq_repr(PyObject *self)
{
    return PyUnicode_FromFormat(
        "<portalocker.pysync.SeqLock at %p: sequence=%llu>", self,
        (unsigned long long)atomic_load_explicit(&as_seq(self)->sequence,
                                                 memory_order_relaxed));
}

/* -- SeqLockWrite ------------------------------------------------------------- */

/* seq_lock.write(): one block that writes. */
struct write_object {
    OBJECT_HEAD
    struct seq_object *lock;
    bool is_inside;
};

static PyObject *
seq_write(PyObject *self, PyTypeObject *defining,
          PyObject *const *Py_UNUSED(arguments), Py_ssize_t count,
          PyObject *keywords)
{
    struct module_state *state = PyType_GetModuleState(defining);
    if (state == NULL) {
        return NULL;
    }
    if (count != 0 || (keywords != NULL && PyTuple_Size(keywords) != 0)) {
        PyErr_SetString(PyExc_TypeError, "write() takes no arguments");
        return NULL;
    }
    struct write_object *write
        = (struct write_object *)allocate(state->write_type);
    if (write != NULL) {
        write->lock = (struct seq_object *)Py_NewRef(self);
    }
    return (PyObject *)write;
}

static PyObject *
write_enter(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct write_object *self = (struct write_object *)object;
    if (!begin_write(self->lock)) {
        return NULL;
    }
    self->is_inside = true;
    return Py_NewRef(object);
}

static PyObject *
write_exit(PyObject *object, PyObject *Py_UNUSED(exception))
{
    struct write_object *self = (struct write_object *)object;
    if (!self->is_inside) {
        Py_RETURN_NONE;
    }
    self->is_inside = false;
    return none_if(end_write(self->lock, 1));
}

static PyObject *
write_abandon(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct write_object *self = (struct write_object *)object;
    if (!self->is_inside) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot abandon: this is not inside the block, or "
                        "abandoned already");
        return NULL;
    }
    self->is_inside = false;
    return none_if(end_write(self->lock, -1));
}

static void
write_dealloc(PyObject *self)
{
    Py_CLEAR(((struct write_object *)self)->lock);
    free_object(self);
}

static PyMethodDef write_methods[] = {
    {"abandon", write_abandon, METH_NOARGS,
     PyDoc_STR("abandon($self)\n--\n\n"
               "End the write: nothing was changed, readers stay valid.")},
    {"__enter__", write_enter, METH_NOARGS, NULL},
    {"__exit__", write_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(write_doc,
"One block in which a SeqLock's data is written: lock.write().");

static PyType_Slot write_slots[] = {
    {Py_tp_doc, (char *)write_doc},
    {Py_tp_dealloc, write_dealloc},
    {Py_tp_members, object_members},
    {Py_tp_methods, write_methods},
    {0, NULL},
};

static PyType_Spec write_spec = {
    .name = "portalocker.pysync.SeqLockWrite",
    .basicsize = sizeof(struct write_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = write_slots,
};

PyDoc_STRVAR(seq_doc,
"SeqLock()\n--\n\n"
"A sequence that tells readers whether a writer came between.");

static PyMethodDef seq_methods[] = {
    {"lock_write", seq_lock_write, METH_NOARGS,
     PyDoc_STR("lock_write($self)\n--\n\nBegin to write; wait for others.")},
    {"unlock_write", seq_unlock_write, METH_NOARGS,
     PyDoc_STR("unlock_write($self)\n--\n\nPublish what was written.")},
    {"abandon_write", seq_abandon_write, METH_NOARGS,
     PyDoc_STR("abandon_write($self)\n--\n\n"
               "End the write: nothing was changed, readers stay valid.")},
    {"begin_read", seq_begin_read, METH_NOARGS,
     PyDoc_STR("begin_read($self)\n--\n\n"
               "Return a token for end_read(); wait while somebody writes.")},
    {"end_read", seq_end_read, METH_O,
     PyDoc_STR("end_read($self, token, /)\n--\n\n"
               "Say whether nobody wrote since begin_read() gave `token`.")},
    {"after_fork", seq_after_fork, METH_NOARGS,
     PyDoc_STR("after_fork($self)\n--\n\n"
               "Make it free; say whether a write was under way.")},
    {"write", OF_CLASS(seq_write),
     PyDoc_STR("write($self)\n--\n\nFor `with`: write inside the block.")},
    {"_holder", seq_holder, METH_NOARGS, NULL},
    {"_lock_read", seq_lock_read, METH_NOARGS, NULL},
    {"_unlock_read", seq_unlock_read, METH_NOARGS, NULL},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot seq_slots[] = {
    {Py_tp_doc, (char *)seq_doc},
    {Py_tp_new, new_object},
    {Py_tp_dealloc, free_object},
    {Py_tp_repr, seq_repr},
    {Py_tp_members, object_members},
    {Py_tp_methods, seq_methods},
    {0, NULL},
};

static PyType_Spec seq_spec = {
    .name = "portalocker.pysync.SeqLock",
    .basicsize = sizeof(struct seq_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = seq_slots,
};

int
add_seq_lock(PyObject *module)
{
    struct module_state *state = module_state(module);
    return add_type(module, "SeqLockWrite", &write_spec, &state->write_type)
                       < 0
                   || add_type(module, "SeqLock", &seq_spec,
                               &state->seq_type)
                          < 0
               ? -1
               : 0;
}
