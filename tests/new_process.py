"""What a new interpreter has loaded, for tests of what an import costs."""

import subprocess
import sys


def modules_after(code: str) -> set[str]:
    """Names of all modules that a new interpreter has loaded once it has run ``code``."""
    shown = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.splitlines()[-1].split())
