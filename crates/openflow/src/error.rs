//! OpenFlow errors: one table gives each error's name and its numbers in every version.
//!
//! An error is a cause ([`OfpErr`]), the same in all versions; type and code depend on the version and some
//! versions lack some errors or carry them as experimenter errors (vendor Nicira or ONF). Where several errors
//! share numbers in a version (1.0 has no code for "is secondary", it uses "permission"), decoding gives the
//! one that comes first in the table.

#![allow(non_camel_case_types)]

use crate::version::Version;

/// Nicira's vendor (experimenter) identifier.
pub const NX_VENDOR: u32 = 0x0000_2320;
/// The Open Networking Foundation's vendor identifier, used for backported standard features.
pub const ONF_VENDOR: u32 = 0x4f4e_4600;

/// How a version numbers an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// 0 for a standard error.
    pub vendor: u32,
    pub type_: u16,
    pub code: u16,
}

struct Range {
    first: u8,
    last: u8,
    code: ErrorCode,
}

const STD: u32 = 0;
const NX: u32 = NX_VENDOR;
const ONF: u32 = ONF_VENDOR;

macro_rules! errors {
    ($($name:ident = [$($first:literal .. $last:literal $vendor:ident ($type:literal, $code:literal)),*],)*) => {
        /// Why a switch refused a message; the variants carry OpenFlow's own names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum OfpErr { $($name),* }

        impl OfpErr {
            /// Every error.
            pub const ALL: &'static [OfpErr] = &[$(OfpErr::$name),*];

            /// OpenFlow's name, for example `OFPBRC_BAD_VERSION`.
            pub fn name(self) -> &'static str {
                match self { $(OfpErr::$name => stringify!($name)),* }
            }

            fn ranges(self) -> &'static [Range] {
                match self { $(OfpErr::$name => &[$(Range {
                    first: $first, last: $last,
                    code: ErrorCode { vendor: $vendor, type_: $type, code: $code },
                }),*]),* }
            }
        }
    };
}

errors! {
    OFPHFC_INCOMPATIBLE = [0..5 STD(0, 0)],
    OFPHFC_EPERM = [0..5 STD(0, 1)],
    OFPBRC_BAD_VERSION = [0..5 STD(1, 0)],
    OFPBRC_BAD_TYPE = [0..5 STD(1, 1)],
    OFPBRC_BAD_STAT = [0..5 STD(1, 2)],
    OFPBRC_BAD_VENDOR = [0..5 STD(1, 3)],
    OFPBRC_BAD_SUBTYPE = [0..5 STD(1, 4)],
    OFPBRC_EPERM = [0..5 STD(1, 5)],
    OFPBRC_BAD_LEN = [0..5 STD(1, 6)],
    OFPBRC_BUFFER_EMPTY = [0..5 STD(1, 7)],
    OFPBRC_BUFFER_UNKNOWN = [0..5 STD(1, 8)],
    OFPBRC_BAD_TABLE_ID = [0..0 NX(1, 512), 1..5 STD(1, 9)],
    OFPBRC_IS_SECONDARY = [0..1 STD(1, 5), 2..5 STD(1, 10)],
    OFPBRC_BAD_PORT = [0..1 NX(1, 514), 2..5 STD(1, 11)],
    OFPBRC_BAD_PACKET = [2..5 STD(1, 12)],
    OFPBRC_MULTIPART_BUFFER_OVERFLOW = [3..5 STD(1, 13)],
    OFPBRC_MULTIPART_REQUEST_TIMEOUT = [3..3 ONF(2640, 0), 4..5 STD(1, 14)],
    OFPBRC_MULTIPART_REPLY_TIMEOUT = [3..3 ONF(2641, 0), 4..5 STD(1, 15)],
    OFPBRC_MULTIPART_BAD_SCHED = [5..5 STD(1, 16)],
    OFPBRC_PIPELINE_FIELDS_ONLY = [5..5 STD(1, 17)],
    OFPBRC_UNKNOWN = [5..5 STD(1, 18)],
    NXBRC_NXM_INVALID = [0..1 NX(1, 256), 2..5 NX(2, 0)],
    NXBRC_NXM_BAD_TYPE = [0..1 NX(1, 257), 2..5 NX(3, 0)],
    NXBRC_MUST_BE_ZERO = [0..1 NX(1, 515), 2..5 NX(4, 0)],
    NXBRC_BAD_REASON = [0..1 NX(1, 516), 2..5 NX(5, 0)],
    NXBRC_FM_BAD_EVENT = [0..1 NX(1, 520), 2..5 NX(9, 0)],
    NXBRC_UNENCODABLE_ERROR = [0..1 NX(1, 521), 2..5 NX(10, 0)],
    OFPBAC_BAD_TYPE = [0..5 STD(2, 0)],
    OFPBAC_BAD_LEN = [0..5 STD(2, 1)],
    OFPBAC_BAD_VENDOR = [0..5 STD(2, 2)],
    OFPBAC_BAD_VENDOR_TYPE = [0..5 STD(2, 3)],
    OFPBAC_BAD_OUT_PORT = [0..5 STD(2, 4)],
    OFPBAC_BAD_ARGUMENT = [0..5 STD(2, 5)],
    OFPBAC_EPERM = [0..5 STD(2, 6)],
    OFPBAC_TOO_MANY = [0..5 STD(2, 7)],
    OFPBAC_BAD_QUEUE = [0..5 STD(2, 8)],
    OFPBAC_BAD_OUT_GROUP = [0..0 NX(2, 9), 1..5 STD(2, 9)],
    OFPBAC_MATCH_INCONSISTENT = [0..0 NX(1, 522), 1..5 STD(2, 10)],
    OFPBAC_UNSUPPORTED_ORDER = [1..5 STD(2, 11)],
    OFPBAC_BAD_TAG = [1..5 STD(2, 12)],
    OFPBAC_BAD_SET_TYPE = [0..1 NX(1, 523), 2..5 STD(2, 13)],
    OFPBAC_BAD_SET_LEN = [0..1 NX(1, 524), 2..5 STD(2, 14)],
    OFPBAC_BAD_SET_ARGUMENT = [0..1 NX(1, 525), 2..5 STD(2, 15)],
    OFPBAC_BAD_SET_MASK = [3..4 ONF(4250, 0), 5..5 STD(2, 16)],
    OFPBAC_BAD_METER = [5..5 STD(2, 17)],
    NXBAC_MUST_BE_ZERO = [0..1 NX(2, 256), 2..5 NX(11, 0)],
    NXBAC_BAD_CONJUNCTION = [0..1 NX(2, 526), 2..5 NX(15, 0)],
    NXBAC_BAD_HEADER_TYPE = [3..5 NX(39, 0)],
    NXBAC_UNKNOWN_ED_PROP = [3..5 NX(40, 0)],
    NXBAC_BAD_ED_PROP = [3..5 NX(41, 0)],
    NXBAC_CT_DATAPATH_SUPPORT = [0..1 NX(1, 265), 2..5 NX(42, 0)],
    OFPBIC_UNKNOWN_INST = [1..5 STD(3, 0)],
    OFPBIC_UNSUP_INST = [0..0 NX(2, 257), 1..5 STD(3, 1)],
    OFPBIC_BAD_TABLE_ID = [1..5 STD(3, 2)],
    OFPBIC_UNSUP_METADATA = [1..5 STD(3, 3)],
    OFPBIC_UNSUP_METADATA_MASK = [1..5 STD(3, 4)],
    OFPBIC_BAD_EXPERIMENTER = [1..5 STD(3, 5)],
    OFPBIC_BAD_EXP_TYPE = [1..1 STD(3, 5), 2..5 STD(3, 6)],
    OFPBIC_BAD_LEN = [2..5 STD(3, 7)],
    OFPBIC_EPERM = [2..5 STD(3, 8)],
    OFPBIC_DUP_INST = [1..1 NX(3, 256), 2..3 ONF(2600, 0), 4..5 STD(3, 9)],
    OFPBMC_BAD_TYPE = [1..5 STD(4, 0)],
    OFPBMC_BAD_LEN = [1..5 STD(4, 1)],
    OFPBMC_BAD_TAG = [1..5 STD(4, 2)],
    OFPBMC_BAD_DL_ADDR_MASK = [1..5 STD(4, 3)],
    OFPBMC_BAD_NW_ADDR_MASK = [1..5 STD(4, 4)],
    OFPBMC_BAD_WILDCARDS = [0..0 NX(1, 262), 1..5 STD(4, 5)],
    OFPBMC_BAD_FIELD = [0..0 NX(0, 263), 1..5 STD(4, 6)],
    OFPBMC_BAD_VALUE = [0..0 NX(1, 258), 1..5 STD(4, 7)],
    OFPBMC_BAD_MASK = [0..1 NX(1, 259), 2..5 STD(4, 8)],
    OFPBMC_BAD_PREREQ = [0..1 NX(1, 260), 2..5 STD(4, 9)],
    OFPBMC_DUP_FIELD = [0..1 NX(1, 261), 2..5 STD(4, 10)],
    OFPBMC_EPERM = [2..5 STD(4, 11)],
    NXBMC_CT_DATAPATH_SUPPORT = [0..1 NX(1, 264), 2..5 NX(43, 0)],
    OFPFMFC_BAD_EMERG_TIMEOUT = [0..0 STD(3, 3)],
    OFPFMFC_UNSUPPORTED = [0..0 STD(3, 5)],
    OFPFMFC_UNKNOWN = [1..5 STD(5, 0)],
    OFPFMFC_TABLE_FULL = [0..0 STD(3, 0), 1..5 STD(5, 1)],
    OFPFMFC_BAD_TABLE_ID = [1..5 STD(5, 2)],
    OFPFMFC_OVERLAP = [0..0 STD(3, 1), 1..5 STD(5, 3)],
    OFPFMFC_EPERM = [0..0 STD(3, 2), 1..5 STD(5, 4)],
    OFPFMFC_BAD_TIMEOUT = [1..5 STD(5, 5)],
    OFPFMFC_BAD_COMMAND = [0..0 STD(3, 4), 1..5 STD(5, 6)],
    OFPFMFC_BAD_FLAGS = [0..0 NX(3, 258), 1..1 NX(5, 258), 2..5 STD(5, 7)],
    OFPFMFC_CANT_SYNC = [4..5 STD(5, 8)],
    OFPFMFC_BAD_PRIORITY = [3..3 ONF(2360, 0), 4..5 STD(5, 9)],
    OFPFMFC_IS_SYNC = [4..5 STD(5, 10)],
    NXFMFC_HARDWARE = [0..1 NX(5, 256), 2..5 NX(12, 0)],
    NXFMFC_BAD_TABLE_ID = [0..1 NX(5, 257), 2..5 NX(13, 0)],
    NXFMFC_INVALID_TLV_FIELD = [0..1 NX(1, 536), 2..5 NX(37, 0)],
    OFPGMFC_GROUP_EXISTS = [0..0 NX(6, 0), 1..5 STD(6, 0)],
    OFPGMFC_INVALID_GROUP = [0..0 NX(6, 1), 1..5 STD(6, 1)],
    OFPGMFC_WEIGHT_UNSUPPORTED = [0..0 NX(6, 2), 1..5 STD(6, 2)],
    OFPGMFC_OUT_OF_GROUPS = [0..0 NX(6, 3), 1..5 STD(6, 3)],
    OFPGMFC_OUT_OF_BUCKETS = [0..0 NX(6, 4), 1..5 STD(6, 4)],
    OFPGMFC_CHAINING_UNSUPPORTED = [0..0 NX(6, 5), 1..5 STD(6, 5)],
    OFPGMFC_WATCH_UNSUPPORTED = [0..0 NX(6, 6), 1..5 STD(6, 6)],
    OFPGMFC_LOOP = [0..0 NX(6, 7), 1..5 STD(6, 7)],
    OFPGMFC_UNKNOWN_GROUP = [0..0 NX(6, 8), 1..5 STD(6, 8)],
    OFPGMFC_CHAINED_GROUP = [0..0 NX(6, 9), 2..5 STD(6, 9)],
    OFPGMFC_BAD_TYPE = [0..0 NX(6, 10), 2..5 STD(6, 10)],
    OFPGMFC_BAD_COMMAND = [0..0 NX(6, 11), 2..5 STD(6, 11)],
    OFPGMFC_BAD_BUCKET = [0..0 NX(6, 12), 2..5 STD(6, 12)],
    OFPGMFC_BAD_WATCH = [0..0 NX(6, 13), 2..5 STD(6, 13)],
    OFPGMFC_EPERM = [0..0 NX(6, 14), 2..5 STD(6, 14)],
    OFPGMFC_UNKNOWN_BUCKET = [0..0 NX(6, 15), 5..5 STD(6, 15)],
    OFPGMFC_BUCKET_EXISTS = [0..0 NX(6, 16), 5..5 STD(6, 16)],
    OFPPMFC_BAD_PORT = [0..0 STD(4, 0), 1..5 STD(7, 0)],
    OFPPMFC_BAD_HW_ADDR = [0..0 STD(4, 1), 1..5 STD(7, 1)],
    OFPPMFC_BAD_CONFIG = [1..5 STD(7, 2)],
    OFPPMFC_BAD_ADVERTISE = [1..5 STD(7, 3)],
    OFPPMFC_EPERM = [2..5 STD(7, 4)],
    OFPTMFC_BAD_TABLE = [1..5 STD(8, 0)],
    OFPTMFC_BAD_CONFIG = [1..5 STD(8, 1)],
    OFPTMFC_EPERM = [2..5 STD(8, 2)],
    OFPQOFC_BAD_PORT = [0..0 STD(5, 0), 1..5 STD(9, 0)],
    OFPQOFC_BAD_QUEUE = [0..0 STD(5, 1), 1..5 STD(9, 1)],
    OFPQOFC_EPERM = [0..0 STD(5, 2), 1..5 STD(9, 2)],
    NXQOFC_QUEUE_ERROR = [4..5 NX(23, 0)],
    OFPSCFC_BAD_FLAGS = [1..5 STD(10, 0)],
    OFPSCFC_BAD_LEN = [1..5 STD(10, 1)],
    OFPSCFC_EPERM = [2..5 STD(10, 2)],
    OFPRRFC_STALE = [2..5 STD(11, 0)],
    OFPRRFC_UNSUP = [2..5 STD(11, 1)],
    OFPRRFC_BAD_ROLE = [0..1 NX(1, 513), 2..5 STD(11, 2)],
    OFPRRFC_ID_UNSUP = [5..5 STD(11, 3)],
    OFPRRFC_ID_IN_USE = [5..5 STD(11, 4)],
    OFPMMFC_UNKNOWN = [3..5 STD(12, 0)],
    OFPMMFC_METER_EXISTS = [3..5 STD(12, 1)],
    OFPMMFC_INVALID_METER = [3..5 STD(12, 2)],
    OFPMMFC_UNKNOWN_METER = [3..5 STD(12, 3)],
    OFPMMFC_BAD_COMMAND = [3..5 STD(12, 4)],
    OFPMMFC_BAD_FLAGS = [3..5 STD(12, 5)],
    OFPMMFC_BAD_RATE = [3..5 STD(12, 6)],
    OFPMMFC_BAD_BURST = [3..5 STD(12, 7)],
    OFPMMFC_BAD_BAND = [3..5 STD(12, 8)],
    OFPMMFC_BAD_BAND_VALUE = [3..5 STD(12, 9)],
    OFPMMFC_OUT_OF_METERS = [3..5 STD(12, 10)],
    OFPMMFC_OUT_OF_BANDS = [3..5 STD(12, 11)],
    OFPTFFC_BAD_TABLE = [3..5 STD(13, 0)],
    OFPTFFC_BAD_METADATA = [3..5 STD(13, 1)],
    OFPTFFC_EPERM = [3..5 STD(13, 5)],
    OFPTFFC_BAD_CAPA = [5..5 STD(13, 6)],
    OFPTFFC_BAD_MAX_ENT = [5..5 STD(13, 7)],
    OFPTFFC_BAD_FEATURES = [5..5 STD(13, 8)],
    OFPTFFC_BAD_COMMAND = [5..5 STD(13, 9)],
    OFPTFFC_TOO_MANY = [5..5 STD(13, 10)],
    NXTFFC_DUP_TABLE = [3..5 NX(44, 0)],
    OFPBPC_BAD_TYPE = [0..1 NX(13, 2), 2..2 NX(25, 0), 3..3 STD(13, 2), 4..5 STD(14, 0)],
    OFPBPC_BAD_LEN = [0..1 NX(13, 3), 2..2 NX(26, 0), 3..3 STD(13, 3), 4..5 STD(14, 1)],
    OFPBPC_BAD_VALUE = [0..1 NX(13, 4), 2..2 NX(27, 0), 3..3 STD(13, 4), 4..5 STD(14, 2)],
    OFPBPC_TOO_MANY = [0..1 NX(14, 3), 2..2 NX(28, 0), 3..3 ONF(4443, 0), 4..5 STD(14, 3)],
    OFPBPC_DUP_TYPE = [0..1 NX(14, 4), 2..2 NX(29, 0), 3..3 ONF(4444, 0), 4..5 STD(14, 4)],
    OFPBPC_BAD_EXPERIMENTER = [0..1 NX(14, 5), 2..2 NX(30, 0), 3..3 ONF(4445, 0), 4..5 STD(14, 5)],
    OFPBPC_BAD_EXP_TYPE = [0..1 NX(14, 6), 2..2 NX(31, 0), 3..3 ONF(4446, 0), 4..5 STD(14, 6)],
    OFPBPC_BAD_EXP_VALUE = [0..1 NX(14, 7), 2..2 NX(32, 0), 3..3 ONF(4447, 0), 4..5 STD(14, 7)],
    OFPBPC_EPERM = [0..1 NX(14, 8), 2..2 NX(33, 0), 3..3 ONF(4448, 0), 4..5 STD(14, 8)],
    OFPACFC_INVALID = [3..3 ONF(2370, 0), 4..5 STD(15, 0)],
    OFPACFC_UNSUPPORTED = [3..3 ONF(2371, 0), 4..5 STD(15, 1)],
    OFPACFC_EPERM = [3..3 ONF(2372, 0), 4..5 STD(15, 2)],
    OFPBFC_UNKNOWN = [3..3 ONF(2300, 0), 4..5 STD(17, 0)],
    OFPBFC_EPERM = [3..3 ONF(2301, 0), 4..5 STD(17, 1)],
    OFPBFC_BAD_ID = [3..3 ONF(2302, 0), 4..5 STD(17, 2)],
    OFPBFC_BUNDLE_EXIST = [3..3 ONF(2303, 0), 4..5 STD(17, 3)],
    OFPBFC_BUNDLE_CLOSED = [3..3 ONF(2304, 0), 4..5 STD(17, 4)],
    OFPBFC_OUT_OF_BUNDLES = [3..3 ONF(2305, 0), 4..5 STD(17, 5)],
    OFPBFC_BAD_TYPE = [3..3 ONF(2306, 0), 4..5 STD(17, 6)],
    OFPBFC_BAD_FLAGS = [3..3 ONF(2307, 0), 4..5 STD(17, 7)],
    OFPBFC_MSG_BAD_LEN = [3..3 ONF(2308, 0), 4..5 STD(17, 8)],
    OFPBFC_MSG_BAD_XID = [3..3 ONF(2309, 0), 4..5 STD(17, 9)],
    OFPBFC_MSG_UNSUP = [3..3 ONF(2310, 0), 4..5 STD(17, 10)],
    OFPBFC_MSG_CONFLICT = [3..3 ONF(2311, 0), 4..5 STD(17, 11)],
    OFPBFC_MSG_TOO_MANY = [3..3 ONF(2312, 0), 4..5 STD(17, 12)],
    OFPBFC_MSG_FAILED = [3..3 ONF(2313, 0), 4..5 STD(17, 13)],
    OFPBFC_TIMEOUT = [3..3 ONF(2314, 0), 4..5 STD(17, 14)],
    OFPBFC_BUNDLE_IN_PROGRESS = [3..3 ONF(2315, 0), 4..5 STD(17, 15)],
    OFPBFC_SCHED_NOT_SUPPORTED = [5..5 STD(17, 16)],
    OFPBFC_SCHED_FUTURE = [5..5 STD(17, 17)],
    OFPBFC_SCHED_PAST = [5..5 STD(17, 18)],
    OFPBFC_BAD_VERSION = [4..5 NX(22, 0)],
    OFPMOFC_UNKNOWN = [4..5 STD(16, 0)],
    OFPMOFC_MONITOR_EXISTS = [0..1 NX(1, 517), 2..3 NX(6, 0), 4..5 STD(16, 1)],
    OFPMOFC_INVALID_MONITOR = [4..5 STD(16, 2)],
    OFPMOFC_UNKNOWN_MONITOR = [0..1 NX(1, 519), 2..3 NX(8, 0), 4..5 STD(16, 3)],
    OFPMOFC_BAD_COMMAND = [4..5 STD(16, 4)],
    OFPMOFC_BAD_FLAGS = [0..1 NX(1, 518), 2..3 NX(7, 0), 4..5 STD(16, 5)],
    OFPMOFC_BAD_TABLE_ID = [4..5 STD(16, 6)],
    OFPMOFC_BAD_OUT = [4..5 STD(16, 7)],
    NXTTMFC_BAD_COMMAND = [0..1 NX(1, 527), 2..5 NX(16, 0)],
    NXTTMFC_BAD_OPT_LEN = [0..1 NX(1, 528), 2..5 NX(17, 0)],
    NXTTMFC_BAD_FIELD_IDX = [0..1 NX(1, 529), 2..5 NX(18, 0)],
    NXTTMFC_TABLE_FULL = [0..1 NX(1, 530), 2..5 NX(19, 0)],
    NXTTMFC_ALREADY_MAPPED = [0..1 NX(1, 531), 2..5 NX(20, 0)],
    NXTTMFC_DUP_ENTRY = [0..1 NX(1, 532), 2..5 NX(21, 0)],
    NXTTMFC_INVALID_TLV_DEL = [0..1 NX(1, 537), 2..5 NX(38, 0)],
    NXR_NOT_SUPPORTED = [0..1 NX(1, 533), 2..5 NX(34, 0)],
    NXR_STALE = [0..1 NX(1, 534), 2..5 NX(35, 0)],
    NXST_NOT_CONFIGURED = [0..1 NX(1, 535), 2..5 NX(36, 0)],
}

impl OfpErr {
    /// The numbers of this error in `version`, if the version has it.
    pub fn code(self, version: Version) -> Option<ErrorCode> {
        let minor = version.minor();
        self.ranges()
            .iter()
            .find(|r| (r.first..=r.last).contains(&minor))
            .map(|r| r.code)
    }

    /// The error that `version` numbers so.
    pub fn from_code(version: Version, code: ErrorCode) -> Option<OfpErr> {
        Self::ALL
            .iter()
            .copied()
            .find(|e| e.code(version) == Some(code))
    }

    /// The error named `name`.
    pub fn from_name(name: &str) -> Option<OfpErr> {
        Self::ALL.iter().copied().find(|e| e.name() == name)
    }
}

impl std::fmt::Display for OfpErr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for OfpErr {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_decodes_to_one_with_the_same_numbers() {
        assert_eq!(OfpErr::ALL.len(), 198);
        for &e in OfpErr::ALL {
            assert_eq!(OfpErr::from_name(e.name()), Some(e));
            for v in Version::ALL {
                if let Some(code) = e.code(v) {
                    let back = OfpErr::from_code(v, code).unwrap();
                    assert_eq!(back.code(v), Some(code));
                }
            }
        }
    }
}
