// The first program of an initramfs without systemd: a static ELF of a few hundred bytes that prepares what a C
// library needs (/proc, /dev) and becomes prepare-root, with an environment that is fixed.
//
// It is put together here, instruction by instruction, because the build has no compiler. All there is to it:
//   mount("proc", "/proc", "proc", NOSUID|NODEV|NOEXEC, 0); mount("devtmpfs", "/dev", "devtmpfs", NOSUID, 0);
//   argv[0] = PROGRAM; execve(PROGRAM, argv, ENVIRONMENT);
//   write(openat(AT_FDCWD, "/dev/kmsg", O_WRONLY, 0), MESSAGE); exit_group(1);
// A mount that is there already is no reason to stop; the kernel's own panic= decides what the exit does.
// Sources: ELF-64 (System V gABI 4), the kernel's system call tables, x86-64 and A64 instruction encodings.

import { struct, u32, u64n } from "../../shared/bytes/layout.ts";
import { ElfHeader, MACHINE } from "./elf.ts";

export type Pid1Architecture = "x64" | "arm64";

const PROGRAM = "/usr/lib/bootc/prepare-root";
const ENVIRONMENT = ["HOME=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux"];
const MESSAGE = `<2>init: cannot start ${PROGRAM}: the initramfs does not have it, or a library that it needs\n`;

const ADDRESS = 0x400000;
const PAGE_BYTES = 4096;
const AT_FDCWD = -100;
const O_WRONLY = 1;
const MOUNT_FLAGS = { proc: 2 | 4 | 8, dev: 2 };

const ProgramHeader = struct("Elf64_Phdr", 56, {
  type: u32,
  flags: u32,
  offset: u64n,
  address: u64n,
  physicalAddress: u64n,
  fileBytes: u64n,
  memoryBytes: u64n,
  alignment: u64n,
});
const HEADERS_BYTES = ElfHeader.sizeBytes + ProgramHeader.sizeBytes;

/** An argument of a system call: a number, the program's own argv (with PROGRAM as argv[0]), or the last result. */
type Value = number | "argv" | "result";

/** What differs between the architectures. */
interface Assembler {
  readonly machine: number;
  readonly calls: Readonly<Record<"execve" | "exit_group" | "mount" | "openat" | "write", number>>;
  /** Loads up to five arguments and calls. "result" only as the first argument, "argv" only as the second. */
  readonly call: (number: number, values: readonly Value[]) => readonly number[];
}

const X64: Assembler = {
  machine: MACHINE.x64,
  calls: { execve: 59, exit_group: 231, mount: 165, openat: 257, write: 1 },
  call(number, values) {
    // mov edi/esi/edx/r10d/r8d, imm32; the upper half becomes zero.
    const loads = [[0xbf], [0xbe], [0xba], [0x41, 0xba], [0x41, 0xb8]];
    const words = values.flatMap((value, index) => {
      if (value === "result") return [0x89, 0xc7]; // mov edi, eax
      // mov [rsp+8], rdi; lea rsi, [rsp+8]
      if (value === "argv") return [0x48, 0x89, 0x7c, 0x24, 0x08, 0x48, 0x8d, 0x74, 0x24, 0x08];
      return [...loads[index]!, ...littleEndian(value)];
    });
    return [...words, 0xb8, ...littleEndian(number), 0x0f, 0x05]; // mov eax, number; syscall
  },
};

const ARM64: Assembler = {
  machine: MACHINE.arm64,
  calls: { execve: 221, exit_group: 94, mount: 40, openat: 56, write: 64 },
  call(number, values) {
    // movz xN, low half; movk xN, high half, lsl 16
    const load = (register: number, value: number) => [
      0xd2800000 | ((value & 0xffff) << 5) | register,
      0xf2a00000 | (((value >>> 16) & 0xffff) << 5) | register,
    ];
    const words = values.flatMap((value, index) => {
      if (value === "result") return []; // in x0 already
      if (value === "argv") return [0xf90007e0, 0x910023e1]; // str x0, [sp, 8]; add x1, sp, 8
      return load(index, value);
    });
    return [...words, ...load(8, number), 0xd4000001].flatMap(littleEndian); // svc 0
  },
};

/** The whole file. */
export function emitPid1Program(architecture: Pid1Architecture): Uint8Array {
  const assembler = architecture === "x64" ? X64 : ARM64;
  // Instructions have the same sizes whatever the addresses are.
  const codeBytes = assemble(assembler, () => 0).length;
  const data = new DataSection(ADDRESS + HEADERS_BYTES + codeBytes);
  const code = assemble(assembler, (value) => data.place(value));
  const body = Buffer.concat([Buffer.from(code), data.bytes()]);
  return Buffer.concat([encodeHeaders(assembler.machine, body.length), body]);
}

/** `place` gives the address of a text, or of a list of texts as pointers that end with a null. */
function assemble(
  { call, calls }: Assembler,
  place: (value: string | readonly string[]) => number,
): readonly number[] {
  const mount = (type: string, path: string, flags: number) =>
    call(calls.mount, [place(type), place(path), place(type), flags, 0]);
  return [
    ...mount("proc", "/proc", MOUNT_FLAGS.proc),
    ...mount("devtmpfs", "/dev", MOUNT_FLAGS.dev),
    ...call(calls.execve, [place(PROGRAM), "argv", place(ENVIRONMENT)]),
    ...call(calls.openat, [AT_FDCWD, place("/dev/kmsg"), O_WRONLY, 0]),
    ...call(calls.write, ["result", place(MESSAGE), MESSAGE.length]),
    ...call(calls.exit_group, [1]),
  ];
}

/** Texts and pointers after the code, read-only as all of the file. */
class DataSection {
  readonly #parts: Buffer[] = [];
  #next: number;

  constructor(address: number) {
    this.#next = address;
  }

  place(value: string | readonly string[]): number {
    if (typeof value === "string") return this.#append(Buffer.from(`${value}\0`));
    const pointers = [...value.map((text) => this.place(text)), 0];
    this.#append(Buffer.alloc(-this.#next & 7)); // pointers begin at a multiple of 8
    const table = new BigUint64Array(pointers.map(BigInt));
    return this.#append(Buffer.from(table.buffer));
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  #append(bytes: Buffer): number {
    const address = this.#next;
    this.#parts.push(bytes);
    this.#next += bytes.length;
    return address;
  }
}

function encodeHeaders(machine: number, bodyBytes: number): Buffer {
  const identification = new Uint8Array(10);
  identification[0] = 1; // EV_CURRENT
  const header = ElfHeader.encode({
    identRest: identification,
    type: 2, // ET_EXEC
    machine,
    version: 1,
    entry: ADDRESS + HEADERS_BYTES,
    programHeaderOffset: ElfHeader.sizeBytes,
    headerSizeBytes: ElfHeader.sizeBytes,
    programHeaderSizeBytes: ProgramHeader.sizeBytes,
    programHeaderCount: 1,
  });
  const sizeBytes = HEADERS_BYTES + bodyBytes;
  const segment = ProgramHeader.encode({
    type: 1, // PT_LOAD
    flags: 5, // read, execute
    address: ADDRESS,
    physicalAddress: ADDRESS,
    fileBytes: sizeBytes,
    memoryBytes: sizeBytes,
    alignment: PAGE_BYTES,
  });
  return Buffer.concat([header, segment]);
}

function littleEndian(value: number): readonly number[] {
  const word = value >>> 0;
  return [word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24];
}
