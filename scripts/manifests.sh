#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Renders the chart with its own values, as deploy/manifests/enid.yaml has it, to standard output. Needs scripts/charts.sh' programs.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "# Rendered from deploy/chart/enid by \`make manifests\`; not to be edited."
exec "${ENID_CHARTS:?the folder that scripts/charts.sh prints}/bin/helm" template enid deploy/chart/enid --namespace kube-system
