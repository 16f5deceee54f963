"""The page of the doctor has an answer to each fault that the tests plant, and no other."""

from tests.support import aws_faults, kubernetes_faults, node_faults
from tests.support.doctor_answers import read_answers


def test_each_planted_fault_has_a_recorded_answer() -> None:
    recorded = {table: set(answers) for table, answers in read_answers().items()}

    assert recorded == {
        "AWS": {fault.id for fault in aws_faults.FAULTS},
        "Kubernetes": {fault.id for fault in kubernetes_faults.FAULTS},
        "A node": {fault.id for fault in node_faults.FAULTS},
    }, "run make doctor-answers"
