//! The tags and enumeration values that keyward uses (OASIS KMIP 1.4, section 9.1.3; KMIP 2.1,
//! section 11). Where two releases have the same thing, it has the same tag in both.

#![forbid(unsafe_code)]

use super::ttlv::Tag;

macro_rules! tags {
    ($($name:ident $value:literal)*) => { $(pub(super) const $name: Tag = Tag($value);)* };
}

tags! {
    APPLICATION_DATA 0x42_0002
    APPLICATION_NAMESPACE 0x42_0003
    APPLICATION_SPECIFIC_INFORMATION 0x42_0004
    ATTRIBUTE 0x42_0008
    ATTRIBUTE_NAME 0x42_000A
    ATTRIBUTE_VALUE 0x42_000B
    BATCH_COUNT 0x42_000D
    BATCH_ERROR_CONTINUATION_OPTION 0x42_000E
    BATCH_ITEM 0x42_000F
    BLOCK_CIPHER_MODE 0x42_0011
    CRYPTOGRAPHIC_ALGORITHM 0x42_0028
    CRYPTOGRAPHIC_LENGTH 0x42_002A
    CRYPTOGRAPHIC_PARAMETERS 0x42_002B
    CRYPTOGRAPHIC_USAGE_MASK 0x42_002C
    INITIAL_DATE 0x42_0039
    IV_COUNTER_NONCE 0x42_003D
    KEY_BLOCK 0x42_0040
    KEY_FORMAT_TYPE 0x42_0042
    KEY_MATERIAL 0x42_0043
    KEY_VALUE 0x42_0045
    KEY_WRAPPING_DATA 0x42_0046
    MAXIMUM_RESPONSE_SIZE 0x42_0050
    NAME 0x42_0053
    NAME_TYPE 0x42_0054
    NAME_VALUE 0x42_0055
    OBJECT_GROUP 0x42_0056
    OBJECT_TYPE 0x42_0057
    OPERATION 0x42_005C
    PADDING_METHOD 0x42_005F
    PROTOCOL_VERSION 0x42_0069
    PROTOCOL_VERSION_MAJOR 0x42_006A
    PROTOCOL_VERSION_MINOR 0x42_006B
    REQUEST_HEADER 0x42_0077
    REQUEST_MESSAGE 0x42_0078
    REQUEST_PAYLOAD 0x42_0079
    RESPONSE_HEADER 0x42_007A
    RESPONSE_MESSAGE 0x42_007B
    RESPONSE_PAYLOAD 0x42_007C
    RESULT_REASON 0x42_007E
    RESULT_STATUS 0x42_007F
    REVOCATION_REASON 0x42_0081
    REVOCATION_REASON_CODE 0x42_0082
    STATE 0x42_008D
    SYMMETRIC_KEY 0x42_008F
    TEMPLATE_ATTRIBUTE 0x42_0091
    UNIQUE_BATCH_ITEM_ID 0x42_0093
    UNIQUE_IDENTIFIER 0x42_0094
    DATA 0x42_00C2
    TAG_LENGTH 0x42_00CE
    ADDITIONAL_DATA 0x42_00FE
    AUTHENTICATION_TAG 0x42_00FF
    SENSITIVE 0x42_0120
    EXTRACTABLE 0x42_0122
    ATTRIBUTES 0x42_0125
    ATTRIBUTE_REFERENCE 0x42_013B
}

/// Object type: a symmetric key.
pub(super) const OBJECT_SYMMETRIC_KEY: u32 = 2;
/// Cryptographic algorithm: AES.
pub(super) const ALGORITHM_AES: u32 = 3;
/// Key format type: the bytes themselves.
pub(super) const FORMAT_RAW: u32 = 1;
/// Name type: a text that means nothing else.
pub(super) const NAME_UNINTERPRETED: u32 = 1;
/// Cryptographic usage mask: encrypt and decrypt.
pub(super) const USAGE_ENCRYPT_DECRYPT: i32 = 0x04 | 0x08;
/// Block cipher modes.
pub(super) const MODE_CBC: u32 = 1;
pub(super) const MODE_GCM: u32 = 9;
/// Padding method: PKCS#5, which is PKCS#7's for blocks of 16 bytes.
pub(super) const PADDING_PKCS5: u32 = 3;
/// Revocation reason: cessation of operation.
pub(super) const REASON_COMPROMISE: u32 = 2;
pub(super) const REASON_CESSATION: u32 = 6;
/// Batch error continuation option: go on with the next.
pub(super) const CONTINUE: u32 = 1;
