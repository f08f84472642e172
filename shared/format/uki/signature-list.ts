// EFI_SIGNATURE_LIST (UEFI 2.10, 32.4.1): what the variables db and dbx, and shim's MokListRT, consist of. Certificates are
// taken out; of the rest only that it is there.

import { FormatError } from "../../error.ts";

const LIST_HEADER_BYTES = 28;
const OWNER_BYTES = 16;
/** EFI_CERT_X509_GUID a5c059a1-94e4-4aa7-87b5-ab155c2bf072, as it is stored. */
const X509 = "a159c0a5e494a74a87b5ab155c2bf072";

export interface SignatureLists {
  /** X.509, in DER. */
  readonly certificates: readonly Uint8Array[];
  /** There are entries of other kinds, such as hashes of programs. */
  readonly hasOthers: boolean;
}

/** `bytes`: of a variable, without its attributes. FormatError. */
export function parseSignatureLists(bytes: Uint8Array): SignatureLists {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const certificates: Uint8Array[] = [];
  let hasOthers = false;
  for (let offset = 0; offset < bytes.length; ) {
    if (offset + LIST_HEADER_BYTES > bytes.length) throw malformed();
    const type = Buffer.from(bytes.subarray(offset, offset + 16)).toString("hex");
    const sizeBytes = view.getUint32(offset + 16, true);
    const entriesAt = offset + LIST_HEADER_BYTES + view.getUint32(offset + 20, true);
    const entryBytes = view.getUint32(offset + 24, true);
    const end = offset + sizeBytes;
    const isWhole = entriesAt <= end && end <= bytes.length && entryBytes > OWNER_BYTES;
    if (!isWhole || (end - entriesAt) % entryBytes !== 0) throw malformed();
    for (let at = entriesAt; at < end; at += entryBytes) {
      if (type === X509) certificates.push(bytes.subarray(at + OWNER_BYTES, at + entryBytes));
      else hasOthers = true;
    }
    offset = end;
  }
  return { certificates, hasOthers };
}

function malformed(): FormatError {
  return new FormatError("bad-value", "A list of Secure Boot keys is malformed", {
    format: "efi-signature-list",
  });
}
