/* Time: now, and until when a caller wants to wait. */
#include "_native.h"

#include <math.h>
#include <time.h>

#ifdef _WIN32
#include <windows.h>
#endif

nanoseconds
monotonic_now(void)
{
#ifdef _WIN32
    LARGE_INTEGER frequency, ticks;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&ticks);
    return ticks.QuadPart / frequency.QuadPart * SECOND
           + ticks.QuadPart % frequency.QuadPart * SECOND / frequency.QuadPart;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
#endif
}

/* As threading.TIMEOUT_MAX; each interpreter that comes stores the same. */
static _Atomic int64_t longest_seconds;

/* False with OverflowError. */
static bool
deadline_in(double seconds, nanoseconds *deadline)
{
    if (seconds > (double)atomic_load_explicit(&longest_seconds,
                                               memory_order_relaxed)) {
        PyErr_SetString(
            PyExc_OverflowError,
            "cannot wait: timeout exceeds threading.TIMEOUT_MAX");
        return false;
    }
    /* a century would overflow, and nobody sees its end */
    *deadline = seconds > 3e9
                    ? NEVER
                    : monotonic_now() + (nanoseconds)ceil(seconds * 1e9);
    return true;
}

bool
deadline_of_timeout(PyObject *timeout, nanoseconds *deadline)
{
    if (timeout == NULL || timeout == Py_None) {
        *deadline = NEVER;
        return true;
    }
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return false;
    }
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "cannot wait: timeout is NaN");
        return false;
    }
    if (seconds > 0) {
        return deadline_in(seconds, deadline);
    }
    *deadline = seconds < 0 ? NEVER : AT_ONCE;
    return true;
}

bool
deadline_of_acquire(PyObject *const *arguments, Py_ssize_t count,
                    PyObject *keywords, nanoseconds *deadline)
{
    static const char *const names[] = {"blocking", "timeout", NULL};
    PyObject *values[2];
    if (!take_arguments("acquire", names, 0, arguments, count, keywords,
                        values)) {
        return false;
    }
    int blocking = values[0] == NULL ? 1 : PyObject_IsTrue(values[0]);
    if (blocking < 0) {
        return false;
    }
    double timeout = -1.0;
    if (values[1] != NULL) {
        timeout = PyFloat_AsDouble(values[1]);
        if (timeout == -1.0 && PyErr_Occurred()) {
            return false;
        }
    }
    if (isnan(timeout)) {
        PyErr_SetString(PyExc_ValueError, "cannot acquire: timeout is NaN");
    }
    else if (!blocking && timeout != -1.0) {
        PyErr_SetString(
            PyExc_ValueError,
            "cannot acquire: a timeout without blocking makes no sense");
    }
    else if (timeout < 0 && timeout != -1.0) {
        PyErr_SetString(PyExc_ValueError,
                        "cannot acquire: timeout is negative and not -1");
    }
    else if (timeout > 0) {
        return deadline_in(timeout, deadline);
    }
    else {
        *deadline = !blocking || timeout == 0 ? AT_ONCE : NEVER;
        return true;
    }
    return false;
}

/* -- the start ---------------------------------------------------------------- */

int
time_initialize(void)
{
    PyObject *threads = PyImport_ImportModule("_thread");
    if (threads == NULL) {
        return -1;
    }
    PyObject *longest = PyObject_GetAttrString(threads, "TIMEOUT_MAX");
    Py_DECREF(threads);
    if (longest == NULL) {
        return -1;
    }
    double seconds = PyFloat_AsDouble(longest);
    Py_DECREF(longest);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    atomic_store_explicit(&longest_seconds, (int64_t)seconds,
                          memory_order_relaxed);
    return 0;
}
