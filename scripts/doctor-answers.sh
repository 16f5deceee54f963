#!/bin/sh
# Record what the doctor answers to each planted fault, and write the page with them again.
set -eu
cd "$(dirname "$0")/.."

rm -f tests/support/doctor_answers.json
HYPERPOD_EBS_RECORD_ANSWERS=1 scripts/test.sh -k names_a_fault \
    tests/system/test_doctor_aws.py tests/system/test_doctor_kubernetes.py tests/system/test_doctor_node.py
scripts/generate.sh
