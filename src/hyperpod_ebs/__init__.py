"""Amazon EBS volumes for SageMaker HyperPod clusters, and for plain EC2 nodes."""

__version__ = "0.1.0"
