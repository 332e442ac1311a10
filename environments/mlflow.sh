#!/usr/bin/env bash
# MLflow over the packages of this project's .venv, which it leaves as they are: environments/mlflow.sh VENV_DIR
set -euo pipefail

venv="${1:?usage: environments/mlflow.sh VENV_DIR}"
root="$(cd "$(dirname "$0")/.." && pwd)"

if [ ! -x "$root/.venv/bin/python" ]; then
  echo "mlflow: .venv is not there: run \`make test\` once" >&2
  exit 1
fi
test -x "$venv/bin/python" || "$root/.venv/bin/python" -m venv "$venv"
places() { "$1" -c "import sysconfig; print(sysconfig.get_path('purelib'))"; }
# A second folder of packages, with its .pth files, such as that of this project.
printf 'import site; site.addsitedir(%s)\n' "'$(places "$root/.venv/bin/python")'" > "$(places "$venv/bin/python")/project.pth"
# The client with a database, as MONAI's handler wants one; not the server and its user interface.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$root/constraints.txt" \
  mlflow-skinny==3.17.2 sqlalchemy==2.1.9 alembic==1.20.1
"$venv/bin/python" -c "import common, mlflow, monai, sqlalchemy; print('mlflow: ready, MLflow', mlflow.__version__)"
