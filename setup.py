"""Builds the optional extension; pyproject.toml says everything else.

Without a compiler, with `PORTALOCKER_NO_EXTENSIONS=1` in the environment, and
on interpreters other than CPython, the package is pure Python and complete.
"""

import glob
import os
import sys
import sysconfig

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

#: the stable ABI has what a callable heap type needs since this version
STABLE_SINCE = (3, 12)
IS_FREE_THREADED = bool(sysconfig.get_config_var('Py_GIL_DISABLED'))
IS_STABLE_ABI = sys.version_info >= STABLE_SINCE and not IS_FREE_THREADED

FLAGS = {
    'unix': ['-std=c11', '-Wall', '-Wextra', '-fvisibility=hidden'],
    'mingw32': ['-std=c11', '-Wall', '-Wextra'],
    'msvc': ['/std:c11', '/experimental:c11atomics', '/W3'],
}


class BuildExtension(build_ext):
    """Builds with the flags of the compiler that is found."""

    def build_extension(self, extension: Extension) -> None:
        """Add the flags, then build."""
        flags = FLAGS.get(self.compiler.compiler_type, [])
        extension.extra_compile_args = [*flags, *extension.extra_compile_args]
        super().build_extension(extension)


def extensions() -> list[Extension]:
    """Return what to compile here: one extension, or nothing."""
    if sys.implementation.name != 'cpython' or os.environ.get(
        'PORTALOCKER_NO_EXTENSIONS', '0'
    ) not in {'', '0'}:
        return []
    macros = []
    if IS_STABLE_ABI:
        macros.append(
            ('Py_LIMITED_API', '0x{:02x}{:02x}0000'.format(*STABLE_SINCE))
        )
    return [
        Extension(
            'portalocker.pysync._native',
            sources=sorted(glob.glob('portalocker/pysync/_native*.c')),
            depends=sorted(glob.glob('portalocker/pysync/_native*.h')),
            define_macros=macros,
            py_limited_api=IS_STABLE_ABI,
            optional=True,
        )
    ]


native = extensions()
options = {}
if native and IS_STABLE_ABI:
    options['bdist_wheel'] = {'py_limited_api': 'cp{}{}'.format(*STABLE_SINCE)}
setup(
    ext_modules=native,
    options=options,
    cmdclass={'build_ext': BuildExtension},
)
