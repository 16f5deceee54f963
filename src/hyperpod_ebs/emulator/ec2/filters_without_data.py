"""The filters that EC2 documents and that match nothing here, because the emulator has no data for them.

Source: EC2 API reference, the parameter Filters of each operation. A filter that the list
of an operation lacks is evaluated, or EC2 refuses it.
"""

from typing import Final

from hyperpod_ebs.emulator.ec2 import filters

INSTANCES: Final = filters.without_values(
    """
    affinity boot-mode capacity-reservation-id capacity-reservation-specification.capacity-reservation-preference
    capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id
    capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn
    current-instance-boot-mode dns-name ena-support enclave-options.enabled hibernation-options.configured host-id
    iam-instance-profile.id instance-lifecycle instance.group-name ip-address ipv6-address kernel-id
    maintenance-options.auto-recovery monitoring-state
    network-interface.addresses.association.allocation-id network-interface.addresses.association.association-id
    network-interface.addresses.association.carrier-ip network-interface.addresses.association.customer-owned-ip
    network-interface.addresses.association.ip-owner-id network-interface.addresses.association.public-dns-name
    network-interface.addresses.association.public-ip network-interface.addresses.primary
    network-interface.addresses.private-dns-name network-interface.association.allocation-id
    network-interface.association.association-id network-interface.association.carrier-ip
    network-interface.association.customer-owned-ip network-interface.association.ip-owner-id
    network-interface.association.public-dns-name network-interface.association.public-ip
    network-interface.attachment.attach-time network-interface.attachment.attachment-id
    network-interface.attachment.delete-on-termination network-interface.attachment.device-index
    network-interface.attachment.instance-id network-interface.attachment.instance-owner-id
    network-interface.attachment.network-card-index network-interface.attachment.status
    network-interface.deny-all-igw-traffic network-interface.description network-interface.group-name
    network-interface.ipv4-prefixes.ipv4-prefix network-interface.ipv6-address
    network-interface.ipv6-addresses.ipv6-address network-interface.ipv6-addresses.is-primary-ipv6
    network-interface.ipv6-native network-interface.ipv6-prefixes.ipv6-prefix
    network-interface.network-interface-id network-interface.operator.managed network-interface.operator.principal
    network-interface.outpost-arn network-interface.private-dns-name network-interface.public-dns-name
    network-interface.requester-id network-interface.requester-managed network-interface.status
    network-interface.source-dest-check network-interface.tag-key network-interface.tag-value
    network-performance-options.bandwidth-weighting operator.principal outpost-arn placement-group-name
    placement-partition-number platform platform-details
    private-dns-name-options.enable-resource-name-dns-a-record
    private-dns-name-options.enable-resource-name-dns-aaaa-record private-dns-name-options.hostname-type
    product-code product-code.type ramdisk-id reason requester-id source-dest-check spot-instance-request-id
    tpm-support usage-operation usage-operation-update-time
    """
)

INSTANCE_TYPES: Final = filters.without_values(
    """
    auto-recovery-supported burstable-performance-supported current-generation dedicated-hosts-supported
    ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps ebs-info.ebs-optimized-info.baseline-iops
    ebs-info.ebs-optimized-info.baseline-throughput-in-mbps ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps
    ebs-info.ebs-optimized-info.maximum-iops ebs-info.ebs-optimized-info.maximum-throughput-in-mbps
    free-tier-eligible hibernation-supported instance-storage-info.disk.count
    instance-storage-info.disk.size-in-gb instance-storage-info.disk.type instance-storage-info.encryption-support
    instance-storage-info.nvme-support instance-storage-info.total-size-in-gb instance-storage-supported
    memory-info.size-in-mib network-info.bandwidth-weightings network-info.efa-info.maximum-efa-interfaces
    network-info.efa-supported network-info.ena-support network-info.flexible-ena-queues-support
    network-info.encryption-in-transit-supported network-info.ipv4-addresses-per-interface
    network-info.ipv6-addresses-per-interface network-info.ipv6-supported network-info.maximum-network-cards
    network-info.maximum-network-interfaces network-info.network-performance nitro-enclaves-support
    nitro-tpm-support nitro-tpm-info.supported-versions processor-info.supported-architecture
    processor-info.sustained-clock-speed-in-ghz processor-info.supported-features reboot-migration-support
    supported-boot-mode supported-usage-class supported-virtualization-type vcpu-info.default-cores
    vcpu-info.default-threads-per-core vcpu-info.default-vcpus vcpu-info.valid-cores
    vcpu-info.valid-threads-per-core
    """
)

AVAILABILITY_ZONES: Final = filters.without_values(
    """
    group-long-name message parent-zone-id parent-zone-name
    """
)

INSTANCE_STATUS: Final = filters.without_values(
    """
    event.code event.description event.instance-event-id event.not-after event.not-before
    event.not-before-deadline operator.principal application-status.status
    """
)

VOLUME_STATUS: Final = filters.without_values(
    """
    action.code action.description action.event-id event.description event.event-id event.event-type
    event.not-after event.not-before
    """
)
