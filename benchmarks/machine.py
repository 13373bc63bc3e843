"""Name the machine: figures without one are worth nothing."""

from __future__ import annotations

import os
import platform


def described(disk: str, memory: str) -> dict[str, str]:
    """Return processor, cores, load, kernel, file systems and Python."""
    python = platform.python_implementation(), platform.python_version()
    load = f'load {os.getloadavg()[0]:.2f} at the end'
    return {
        'processor': f'{processor()}, {os.cpu_count()} cores, {load}',
        'kernel': f'{platform.system()} {platform.release()}',
        'on disk': file_system(disk),
        'in RAM': file_system(memory),
        'Python': ' '.join(python),
    }


def lines_of(description: dict[str, str]) -> str:
    """Return the description as lines below a table."""
    return '\n'.join(f'{name:9}  {text}' for name, text in description.items())


def processor() -> str:
    """Return the model name that the kernel tells."""
    with open('/proc/cpuinfo') as stream:
        for line in stream:
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.machine()


def file_system(path: str) -> str:
    """Return the type of the file system that `path` is on."""
    device = os.stat(path).st_dev
    wanted = f'{os.major(device)}:{os.minor(device)}'
    with open('/proc/self/mountinfo') as stream:
        for line in stream:
            fields = line.split()
            if fields[2] == wanted:
                return fields[fields.index('-') + 1]
    return 'unknown file system'
