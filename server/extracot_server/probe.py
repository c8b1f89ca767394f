"""The probe under its old name, for health checks written for earlier versions."""

import sys

from extracot_server.runtime.probe import main

if __name__ == "__main__":
    print(
        "extracot: python -m extracot_server.probe is now python -m extracot_server.runtime.probe",
        file=sys.stderr,
    )
    sys.exit(main())
