/* RWMutex: many readers or one writer, nobody kept out for long. */
#include "_native_rw_word.h"
#include "_native_shape.h"

static PyObject *
holder_of(struct rw_word *rw)
{
    return PyLong_FromUnsignedLong(
        rw_load(rw) & WRITTEN
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

static inline struct view *
as_view(PyObject *self)
{
    return (struct view *)self;
}

static inline enum outcome
take_view(PyObject *object, nanoseconds deadline)
{
    struct view *self = as_view(object);
    return self->is_writer ? rw_lock_write(self->rw, object, deadline)
                           : rw_lock_read(self->rw, object, deadline);
}

static inline bool
release_view(PyObject *object)
{
    struct view *self = as_view(object);
    return self->is_writer ? rw_unlock_write(self->rw) : rw_unlock_read(self->rw);
}

static inline bool
is_view_locked(PyObject *object)
{
    struct view *self = as_view(object);
    rw_bits bits = rw_load(self->rw);
    return self->is_writer ? bits & WRITTEN : rw_is_read(bits);
}

static const struct lock_verbs view_verbs
    = {take_view, release_view, is_view_locked};

SHAPE_AS_LOCK(view)

static PyObject *
view_holder(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return holder_of(as_view(self)->rw);
}

static PyObject *
view_at_fork_reinit(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    rw_reset(as_view(self)->rw);
    Py_RETURN_NONE;
}

static PyObject *
view_repr(PyObject *self)
{
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.RWMutex.%s object at %p>",
        is_view_locked(self) ? "locked" : "unlocked",
        as_view(self)->is_writer ? "writer" : "reader", self);
}

static void
view_dealloc(PyObject *self)
{
    Py_CLEAR(as_view(self)->reader);
    free_object(self);
}

PyDoc_STRVAR(view_doc,
"One side of an RWMutex, shaped like a lock: rw.reader or rw.writer.");

static PyMethodDef view_methods[] = {
    ACQUIRE_ROW(view, "acquire",
                "Take this side and return True; False if it stayed taken."),
    RELEASE_ROW(view, "release"),
    {"locked", view_locked_method, METH_NOARGS,
     PyDoc_STR("locked($self)\n--\n\nSay whether this side is held.")},
    TIMED_ROW(view),
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
    return as_view(self)->rw;
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

static inline enum outcome
take_to_read(PyObject *self, nanoseconds deadline)
{
    return rw_lock_read(word_of(self), self, deadline);
}

static inline bool
release_read(PyObject *self)
{
    return rw_unlock_read(word_of(self));
}

static inline bool
is_read_locked(PyObject *self)
{
    return rw_is_read(rw_load(word_of(self)));
}

static inline enum outcome
take_to_write(PyObject *self, nanoseconds deadline)
{
    return rw_lock_write(word_of(self), self, deadline);
}

static inline bool
release_write(PyObject *self)
{
    return rw_unlock_write(word_of(self));
}

static inline bool
is_write_locked(PyObject *self)
{
    return rw_load(word_of(self)) & WRITTEN;
}

static const struct lock_verbs read_verbs
    = {take_to_read, release_read, is_read_locked};
static const struct lock_verbs write_verbs
    = {take_to_write, release_write, is_write_locked};

SHAPE_AS_LOCK(read)
SHAPE_AS_LOCK(write)

static PyObject *
downgrade(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_if(rw_downgrade(word_of(self)));
}

static PyObject *
rw_holder(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return holder_of(word_of(self));
}

static PyObject *
rw_at_fork_reinit(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    rw_reset(word_of(self));
    Py_RETURN_NONE;
}

static PyObject *
rw_repr(PyObject *self)
{
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.RWMutex object at %p>",
        is_write_locked(self)  ? "write-locked"
        : is_read_locked(self) ? "read-locked"
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

#define LEAVE_ROW(prefix, name, who) \
    {name, prefix##_release_method, METH_NOARGS, \
     PyDoc_STR(name "($self)\n--\n\n" \
               who " leaves. RuntimeError if there is none.")}

static PyMethodDef rw_methods[] = {
    ACQUIRE_ROW(read, "acquire_read",
                "Take it as a reader and return True; False if it stayed "
                "taken."),
    LEAVE_ROW(read, "release_read", "One reader"),
    ACQUIRE_ROW(write, "acquire_write",
                "Take it as the writer and return True; False if it stayed "
                "taken."),
    LEAVE_ROW(write, "release_write", "The writer"),
    {"r_lock", read_lock_method, METH_NOARGS,
     PyDoc_STR("r_lock($self)\n--\n\nTake it as a reader.")},
    LEAVE_ROW(read, "r_unlock", "One reader"),
    {"lock", write_lock_method, METH_NOARGS,
     PyDoc_STR("lock($self)\n--\n\nTake it as the writer.")},
    LEAVE_ROW(write, "unlock", "The writer"),
    {"downgrade", downgrade, METH_NOARGS,
     PyDoc_STR("rw_downgrade($self)\n--\n\n"
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
