/* CriticalSection and CSThread, as Python sees them. */
#include "_native_section.h"

#include <string.h>

/* -- CriticalSection ------------------------------------------------------------ */

static inline struct section *
as_section(PyObject *self)
{
    return (struct section *)self;
}

static void
empty(struct mutex_set *set)
{
    while (set->count > 0) {
        Py_DECREF(set->mutexes[--set->count]);
    }
    if (set->mutexes != set->few) {
        PyMem_Free(set->mutexes);
    }
    set->mutexes = set->few;
}

/* Insert in order, unless it is there; there is room. */
static bool
add(struct mutex_set *set, PyTypeObject *mutex_type, PyObject *mutex)
{
    if (Py_TYPE(mutex) != mutex_type) {
        PyErr_Format(PyExc_TypeError,
                     "cannot begin a section: %R is not a Mutex", mutex);
        return false;
    }
    struct mutex_object *wanted = (struct mutex_object *)mutex;
    Py_ssize_t n = set->count;
    while (n > 0 && (uintptr_t)set->mutexes[n - 1] >= (uintptr_t)wanted) {
        n--;
    }
    if (n < set->count && set->mutexes[n] == wanted) {
        return true;
    }
    memmove(&set->mutexes[n + 1], &set->mutexes[n],
            (size_t)(set->count - n) * sizeof(wanted));
    set->mutexes[n] = (struct mutex_object *)Py_NewRef(mutex);
    set->count++;
    return true;
}

/* Empty it, and have room for so many; false with an exception. */
static bool
make_room(struct mutex_set *set, Py_ssize_t size)
{
    empty(set);
    if (size > INLINE_MUTEXES) {
        struct mutex_object **room
            = PyMem_Calloc((size_t)size, sizeof(*room));
        if (room == NULL) {
            PyErr_NoMemory();
            return false;
        }
        set->mutexes = room;
    }
    return true;
}

static PyObject *section_call(PyObject *, PyObject *const *, size_t,
                              PyObject *);

static PyObject *
section_new(PyTypeObject *type, PyObject *mutexes, PyObject *keywords)
{
    struct module_state *state = PyType_GetModuleState(type);
    if (state == NULL) {
        return NULL;
    }
    if (keywords != NULL && PyDict_Size(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError,
                        "CriticalSection() takes no keyword arguments");
        return NULL;
    }
    struct section *self = as_section(allocate(type));
    if (self == NULL) {
        return NULL;
    }
    self->call = section_call;
    self->own.mutexes = self->own.few;
    self->given.mutexes = self->given.few;
    self->wanted = &self->own;
    Py_ssize_t size = PyTuple_Size(mutexes);
    bool is_done = make_room(&self->own, size);
    for (Py_ssize_t n = 0; is_done && n < size; n++) {
        is_done = add(&self->own, state->mutex_type,
                      PyTuple_GetItem(mutexes, n));
    }
    if (!is_done) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
section_dealloc(PyObject *self)
{
    empty(&as_section(self)->own);
    empty(&as_section(self)->given);
    free_object(self);
}

/* From IDLE to TAKING; false with RuntimeError. */
static bool
take_section(struct section *self)
{
    enum section_state state = IDLE;
    if (atomic_compare_exchange_strong_explicit(
            &self->state, &state, TAKING, memory_order_acquire,
            memory_order_relaxed)) {
        return true;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "cannot begin: this section has begun already");
    return false;
}

static PyObject *
section_call(PyObject *object, PyObject *const *Py_UNUSED(arguments),
             size_t count, PyObject *keywords)
{
    struct section *self = as_section(object);
    int call = context_call(count, keywords);
    if (call == EXITS) {
        return none_if(section_leave(self));
    }
    if (call != ENTERS) {
        return NULL;
    }
    struct cs_thread *thread = find_thread();
    if (thread == NULL) {
        struct module_state *state = PyType_GetModuleState(Py_TYPE(object));
        thread = state == NULL ? NULL : need_thread(state);
    }
    return thread != NULL && take_section(self)
                   && section_enter(self, thread, &self->own)
               ? Py_NewRef(object)
               : NULL;
}

/* `given` is None, or has to be this thread's. */
static bool
is_this_thread(PyObject *given, struct cs_thread *thread)
{
    if (given == NULL || given == Py_None || given == (PyObject *)thread) {
        return true;
    }
    PyErr_SetString(
        PyExc_RuntimeError,
        "cannot begin or end: a section belongs to the thread that runs");
    return false;
}

/* begin(mutex, ...) and begin_mutex2(first, second, ...) */
static PyObject *
begin_with(PyObject *object, PyTypeObject *defining, PyObject **mutexes,
           Py_ssize_t size, PyObject *given)
{
    struct section *self = as_section(object);
    struct module_state *state = PyType_GetModuleState(defining);
    if (state == NULL) {
        return NULL;
    }
    struct cs_thread *thread = need_thread(state);
    if (thread == NULL || !is_this_thread(given, thread)
        || !take_section(self)) {
        return NULL;
    }
    bool is_done = make_room(&self->given, size);
    for (Py_ssize_t n = 0; is_done && n < size; n++) {
        is_done = add(&self->given, state->mutex_type, mutexes[n]);
    }
    if (!is_done) {
        set_state(self, IDLE);
    }
    return none_if(is_done && section_enter(self, thread, &self->given));
}

static PyObject *
section_begin(PyObject *self, PyTypeObject *defining,
              PyObject *const *arguments, Py_ssize_t count,
              PyObject *keywords)
{
    static const char *const names[] = {"mutex", "thread", NULL};
    PyObject *values[2];
    if (!take_arguments("begin", names, 1, arguments, count, keywords,
                        values)) {
        return NULL;
    }
    return begin_with(self, defining, values, 1, values[1]);
}

static PyObject *
section_begin_mutex2(PyObject *self, PyTypeObject *defining,
                     PyObject *const *arguments, Py_ssize_t count,
                     PyObject *keywords)
{
    static const char *const names[] = {"first", "second", "thread", NULL};
    PyObject *values[3];
    if (!take_arguments("begin_mutex2", names, 2, arguments, count, keywords,
                        values)) {
        return NULL;
    }
    return begin_with(self, defining, values, 2, values[2]);
}

static PyObject *
section_end(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
            PyObject *keywords)
{
    static const char *const names[] = {"thread", NULL};
    PyObject *given;
    if (!take_arguments("end", names, 0, arguments, count, keywords, &given)
        || !is_this_thread(given, find_thread())) {
        return NULL;
    }
    return none_if(section_leave(as_section(self)));
}

static PyObject *
section_repr(PyObject *self)
{
    static const char *const words[]
        = {"idle", "suspended", "held", "suspended", "nested"};
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.CriticalSection object at %p>",
        words[state_of(as_section(self))], self);
}

PyDoc_STRVAR(section_doc,
"CriticalSection(*mutexes)\n--\n\n"
"Holds its mutexes, except while its thread sleeps in a lock.");

static PyMethodDef section_methods[] = {
    {"begin", OF_CLASS(section_begin),
     PyDoc_STR("begin($self, mutex, thread=None)\n--\n\n"
               "Begin to hold `mutex`.")},
    {"begin_mutex2", OF_CLASS(section_begin_mutex2),
     PyDoc_STR("begin_mutex2($self, first, second, thread=None)\n--\n\n"
               "Begin to hold both.")},
    {"end", KEYWORDS(section_end),
     PyDoc_STR("end($self, thread=None)\n--\n\n"
               "Unlock them; the section around this one holds its own "
               "again.")},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot section_slots[] = {
    {Py_tp_doc, (char *)section_doc},
    {Py_tp_new, section_new},
    {Py_tp_dealloc, section_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, section_repr},
    {Py_tp_members, context_members},
    {Py_tp_methods, section_methods},
    {0, NULL},
};

static PyType_Spec section_spec = {
    .name = "portalocker.pysync.CriticalSection",
    .basicsize = sizeof(struct section),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = section_slots,
};

/* -- CSThread -------------------------------------------------------------------- */

static PyObject *
thread_top(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    /* in another thread, it might go while we look */
    if ((struct cs_thread *)self != find_thread()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot look: these are another thread's sections");
        return NULL;
    }
    PyObject *top = (PyObject *)((struct cs_thread *)self)->top;
    return Py_NewRef(top == NULL ? Py_None : top);
}

static PyObject *
thread_current(PyObject *type, PyObject *Py_UNUSED(ignored))
{
    struct module_state *state = PyType_GetModuleState((PyTypeObject *)type);
    return state == NULL ? NULL
                         : Py_XNewRef((PyObject *)need_thread(state));
}

static void
thread_dealloc(PyObject *object)
{
    struct cs_thread *self = (struct cs_thread *)object;
    /* what the thread left begun stays locked, as any lock would */
    while (self->top != NULL) {
        section_pop(self);
    }
    free_object(object);
}

static PyMethodDef thread_methods[] = {
    {"current", thread_current, METH_NOARGS | METH_CLASS,
     PyDoc_STR("current()\n--\n\nThe stack of the thread that runs.")},
    {"top", thread_top, METH_NOARGS,
     PyDoc_STR("top($self)\n--\n\n"
               "The innermost section, or None; in its own thread only.")},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(thread_doc,
"The critical sections that one thread has begun.");

static PyType_Slot thread_slots[] = {
    {Py_tp_doc, (char *)thread_doc},
    {Py_tp_dealloc, thread_dealloc},
    {Py_tp_members, object_members},
    {Py_tp_methods, thread_methods},
    {0, NULL},
};

static PyType_Spec thread_spec = {
    .name = "portalocker.pysync.CSThread",
    .basicsize = sizeof(struct cs_thread),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = thread_slots,
};

int
add_sections(PyObject *module)
{
    return add_type(module, "CSThread", &thread_spec,
                    &module_state(module)->thread_type)
                       < 0
                   || add_context_type(module, "CriticalSection",
                                       &section_spec, NULL)
                          < 0
               ? -1
               : 0;
}
