// SPDX-License-Identifier: GPL-2.0
/*
 * The MP table (Intel MultiProcessor Specification 1.4): how a kernel without
 * ACPI learns of its CPUs and of how interrupts are wired.
 */
#include <string.h>

#include "boot.h"

#define APIC_VERSION	0x14
#define LAPIC_ADDR	0xfee00000
#define IOAPIC_ADDR	0xfec00000
#define IOAPIC_VERSION	0x11
#define NR_ISA_IRQS	16

enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INT, ENTRY_LINT };
enum { INT_VECTORED = 0, INT_NMI = 1, INT_EXT = 3 };

struct mp_pointer {
	char signature[4];
	u32 table;
	u8 length;		/* in 16 bytes */
	u8 revision;
	u8 checksum;
	u8 features[5];
} __attribute__((packed));

struct mp_table {
	char signature[4];
	u16 length;
	u8 revision;
	u8 checksum;
	char oem[8];
	char product[12];
	u32 oem_table;
	u16 oem_size;
	u16 entries;
	u32 lapic;
	u16 extended_length;
	u8 extended_checksum;
	u8 reserved;
} __attribute__((packed));

struct mp_cpu {
	u8 type;
	u8 apic_id;
	u8 apic_version;
	u8 flags;		/* 1: enabled, 2: the one that boots */
	u32 signature;
	u32 features;
	u32 reserved[2];
} __attribute__((packed));

struct mp_bus {
	u8 type;
	u8 id;
	char name[6];
} __attribute__((packed));

struct mp_ioapic {
	u8 type;
	u8 id;
	u8 version;
	u8 flags;
	u32 addr;
} __attribute__((packed));

struct mp_int {
	u8 type;
	u8 int_type;
	u16 flags;		/* 0: as is usual for the bus */
	u8 bus;
	u8 bus_irq;
	u8 dest;
	u8 pin;
} __attribute__((packed));

static u8 checksum(const void *p, size_t size)
{
	const u8 *b = p;
	u8 sum = 0;

	while (size--)
		sum += *b++;
	return -sum;
}

static u8 *add(struct mp_table *table, u8 *at, const void *entry, size_t size)
{
	memcpy(at, entry, size);
	table->entries++;
	return at + size;
}

void mptable_build(u8 *area, unsigned int nr_cpus)
{
	struct mp_pointer *pointer = (struct mp_pointer *)(area + MPTABLE_GPA);
	struct mp_table *table = (struct mp_table *)(pointer + 1);
	u8 *at = (u8 *)(table + 1);
	u8 ioapic_id = nr_cpus;
	struct mp_bus bus = { ENTRY_BUS, 0, "ISA   " };
	struct mp_ioapic ioapic = { ENTRY_IOAPIC, ioapic_id, IOAPIC_VERSION, 1, IOAPIC_ADDR };
	struct mp_int lint[] = {
		{ ENTRY_LINT, INT_EXT, 0, 0, 0, 0, 0 },
		{ ENTRY_LINT, INT_NMI, 0, 0, 0, 0xff, 1 },
	};
	unsigned int i;

	*table = (struct mp_table){
		.signature = { 'P', 'C', 'M', 'P' },
		.revision = 4,
		.lapic = LAPIC_ADDR,
	};
	memcpy(table->product, "KUF VM      ", sizeof(table->product));
	memcpy(table->oem, "KUF     ", sizeof(table->oem));

	for (i = 0; i < nr_cpus; i++) {
		struct mp_cpu cpu = {
			.type = ENTRY_CPU,
			.apic_id = i,
			.apic_version = APIC_VERSION,
			.flags = i ? 1 : 3,
			.signature = 0x600,
			.features = 0x201,	/* FPU, APIC */
		};

		at = add(table, at, &cpu, sizeof(cpu));
	}
	at = add(table, at, &bus, sizeof(bus));
	at = add(table, at, &ioapic, sizeof(ioapic));
	/* KVM wires the timer to pin 0 as well as every other line to its own. */
	for (i = 0; i < NR_ISA_IRQS; i++) {
		struct mp_int irq = {
			.type = ENTRY_INT,
			.int_type = INT_VECTORED,
			.bus_irq = i,
			.dest = ioapic_id,
			.pin = i,
		};

		at = add(table, at, &irq, sizeof(irq));
	}
	for (i = 0; i < ARRAY_SIZE(lint); i++)
		at = add(table, at, &lint[i], sizeof(lint[i]));

	table->length = at - (u8 *)table;
	table->checksum = checksum(table, table->length);

	*pointer = (struct mp_pointer){
		.signature = { '_', 'M', 'P', '_' },
		.table = MPTABLE_GPA + sizeof(*pointer),
		.length = 1,
		.revision = 4,
	};
	pointer->checksum = checksum(pointer, sizeof(*pointer));
}
