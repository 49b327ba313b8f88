/** Descriptors of our own, each with the structure that one family of programs gives them. */
import { escapeXml } from '../../../codec/xml.js';

export interface SampleDisk {
  readonly href: string;
  /** Further attributes of its `File`. */
  readonly file?: string;
  readonly capacity?: number;
  /** Further attributes of its `Disk`. */
  readonly disk?: string;
}

const CIM = 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2';
const STREAM = 'http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized';

function references(disks: readonly SampleDisk[], prefix: string): string {
  return disks
    .map(
      ({ href, file = '' }, n) => `    <${prefix}File ovf:href="${escapeXml(href)}" ovf:id="file${n + 1}"${file}/>\n`,
    )
    .join('');
}

function diskList(disks: readonly SampleDisk[], prefix: string): string {
  return disks
    .map(
      ({ capacity = 65_536, disk = '' }, n) =>
        `    <${prefix}Disk ovf:capacity="${capacity}" ovf:diskId="vmdisk${n + 1}" ovf:fileRef="file${n + 1}" ovf:format="${STREAM}"${disk}/>\n`,
    )
    .join('');
}

/** As VirtualBox has it: no prefix, a section of its own in a namespace of its own, a type for each machine. */
export function virtualBox(disks: readonly SampleDisk[]): string {
  return `<?xml version="1.0"?>
<Envelope ovf:version="1.0" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="${CIM}/CIM_ResourceAllocationSettingData" xmlns:vssd="${CIM}/CIM_VirtualSystemSettingData" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References>
${references(disks, '')}  </References>
  <DiskSection>
    <Info>List of the virtual disks</Info>
${diskList(disks, '')}  </DiskSection>
  <VirtualSystem ovf:id="sample">
    <Info>A machine</Info>
    <VirtualHardwareSection>
      <Info>Hardware</Info>
      <System>
        <vssd:ElementName>Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>sample</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:Caption>sata</rasd:Caption>
        <rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>AHCI</rasd:ResourceSubType>
        <rasd:ResourceType>20</rasd:ResourceType>
      </Item>
    </VirtualHardwareSection>
    <vbox:Machine ovf:required="false" version="1.16-linux" uuid="{00000000-0000-4000-8000-000000000001}">
      <ovf:Info>Everything else</ovf:Info>
      <Hardware><Memory RAMSize="512"/><!-- kept --><CPU count="1"><![CDATA[<&>]]></CPU></Hardware>
    </vbox:Machine>
  </VirtualSystem>
</Envelope>
`;
}

/** As VMware has it: CRLF, comments before the root, extensions in its own namespace, populated sizes. */
export function vmware(disks: readonly SampleDisk[]): string {
  return `<?xml version="1.0" encoding="UTF-8"?>
<!--Generated for a test, with a word in Greek: \u03bb\u03cc\u03b3\u03bf\u03c2-->
<Envelope vmw:buildId="build-1" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="${CIM}/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vssd="${CIM}/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <References>
${references(disks, '')}  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
${diskList(disks, '')}  </DiskSection>
  <VirtualSystem ovf:id="vm">
    <Info>A virtual machine</Info>
    <Name>vm &amp; more</Name>
    <VirtualHardwareSection ovf:transport="iso">
      <Info>Virtual hardware requirements</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>vm</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>
      </System>
      <vmw:Config ovf:required="false" vmw:key="cpuHotAddEnabled" vmw:value="false"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>`.replaceAll('\n', '\r\n');
}

/** As virt-v2v has it for oVirt: everything with a prefix, sections that are typed, machines as `Content`. */
export function virtV2v(disks: readonly SampleDisk[]): string {
  const list = diskList(disks, '').replaceAll(STREAM, 'http://en.wikipedia.org/wiki/Byte');
  return `<?xml version='1.0' encoding='utf-8'?>
<ovf:Envelope xmlns:rasd="${CIM}/CIM_ResourceAllocationSettingData" xmlns:vssd="${CIM}/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1/" ovf:version="0.9">
  <!-- made for a test -->
  <References>
${references(disks, '')}  </References>
  <Section xsi:type="ovf:DiskSection_Type">
    <Info>List of Virtual Disks</Info>
${list}  </Section>
  <Content ovf:id="out" xsi:type="ovf:VirtualSystem_Type">
    <Name>sample</Name>
    <Section xsi:type="ovf:VirtualHardwareSection_Type">
      <Info>1 CPU, 512 Memory</Info>
      <System>
        <vssd:VirtualSystemType>ENGINE 4.1.0.0</vssd:VirtualSystemType>
      </System>
    </Section>
  </Content>
</ovf:Envelope>
`;
}
