/** The descriptor of a machine with one disk. */
import { escapeXml } from '../../codec/xml.js';

export interface Machine {
  readonly name: string;
  readonly systemType: string;
  readonly cpus: number;
  readonly mebibytes: number;
  readonly controller: 'lsilogic' | 'buslogic' | 'lsilogicsas' | 'pvscsi' | 'ide' | 'sata';
  readonly network: { readonly name: string; readonly adapter: string } | undefined;
  readonly disk: { readonly href: string; readonly fileBytes: number; readonly capacity: number };
}

/** CIM's numbers for kinds of devices. */
const KIND = { cpu: 3, memory: 4, ide: 5, scsi: 6, ethernet: 10, disk: 17, sata: 20 } as const;
const CIM = 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2';
const NAMES: Readonly<Partial<Record<Machine['controller'], string>>> = {
  lsilogicsas: 'lsilogicsas',
  pvscsi: 'VirtualSCSI',
  sata: 'vmware.sata.ahci',
};

/** The elements of an item in the order of the schema, which is that of their names. */
type Item = Readonly<Record<string, string | number | boolean>>;

export function describeMachine(machine: Machine): string {
  const { name, systemType, network, disk } = machine;
  const text = escapeXml;
  const networks =
    network === undefined
      ? ''
      : `  <NetworkSection>
    <Info>The networks of the machine</Info>
    <Network ovf:name="${text(network.name)}">
      <Description>The network ${text(network.name)}</Description>
    </Network>
  </NetworkSection>
`;
  return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="${CIM}/CIM_ResourceAllocationSettingData" xmlns:vssd="${CIM}/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:href="${text(disk.href)}" ovf:id="file1" ovf:size="${disk.fileBytes}"/>
  </References>
  <DiskSection>
    <Info>The disks of the machine</Info>
    <Disk ovf:capacity="${disk.capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
${networks}  <VirtualSystem ovf:id="${text(name)}">
    <Info>A virtual machine</Info>
    <Name>${text(name)}</Name>
    <OperatingSystemSection ovf:id="1">
      <Info>The guest operating system</Info>
      <Description>Other</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>The hardware of the machine</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>${text(name)}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>${text(systemType)}</vssd:VirtualSystemType>
      </System>
${itemsOf(machine).map(itemText).join('')}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`;
}

function itemsOf({ cpus, mebibytes, controller, network }: Machine): readonly Item[] {
  const kind = controller === 'ide' || controller === 'sata' ? controller : 'scsi';
  const named = NAMES[controller] ?? (kind === 'scsi' ? controller : undefined);
  return [
    {
      AllocationUnits: 'hertz * 10^6',
      ElementName: `${cpus} virtual CPU(s)`,
      InstanceID: 1,
      ResourceType: KIND.cpu,
      VirtualQuantity: cpus,
    },
    {
      AllocationUnits: 'byte * 2^20',
      ElementName: `${mebibytes} MB of memory`,
      InstanceID: 2,
      ResourceType: KIND.memory,
      VirtualQuantity: mebibytes,
    },
    {
      Address: 0,
      ElementName: `${kind.toUpperCase()} controller`,
      InstanceID: 3,
      ...(named === undefined ? {} : { ResourceSubType: named }),
      ResourceType: KIND[kind],
    },
    {
      AddressOnParent: 0,
      ElementName: 'Hard disk',
      HostResource: 'ovf:/disk/vmdisk1',
      InstanceID: 4,
      Parent: 3,
      ResourceType: KIND.disk,
    },
    ...(network === undefined
      ? []
      : [
          {
            AutomaticAllocation: true,
            Connection: network.name,
            ElementName: 'Network adapter',
            InstanceID: 5,
            ResourceSubType: network.adapter,
            ResourceType: KIND.ethernet,
          },
        ]),
  ];
}

function itemText(item: Item): string {
  const lines = Object.entries(item).map(
    ([name, value]) => `        <rasd:${name}>${escapeXml(String(value))}</rasd:${name}>\n`,
  );
  return `      <Item>\n${lines.join('')}      </Item>\n`;
}
