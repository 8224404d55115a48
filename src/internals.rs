//! The items that tests, benchmarks and fuzz targets of this project use in addition to the facade. They may change
//! at any time.

#![allow(missing_docs, reason = "each item is documented where it is defined")]

pub mod batch {
    pub mod workers {
        pub use crate::batch::workers::Input;
    }
}
pub mod bits {
    pub use crate::bits::{copy, read, write};
}
pub mod capture {
    pub use crate::capture::{
        Form, Frame, HexIs, Interface, LINKTYPE_RAW, Options, Reader, Source, Timestamp, Window, Writer,
    };
}
pub mod cipher {
    pub use crate::cipher::{EspCipher, Hash, INTEGS, Integ, IntegKey, Keys, SUITES, Suite};
}
pub mod codec {
    pub use crate::codec::{Codec, Compressed, Form, Mismatch, Restorable, Restored, State, close_standard};
    pub mod apply {
        pub use crate::codec::apply::digits;
    }
    pub mod explain {
        pub use crate::codec::explain::{
            AfterHeaders, Explanation, FieldValue, OpenedPacket, Origin, ResidueRow, RowStage, Unexplained,
        };
    }
}
pub mod command {
    pub mod compress {
        pub use crate::command::compress::{Input, OnMismatch, Settings, run};
    }
    pub mod convert {
        pub use crate::command::convert::{Reseal, Settings, Target, run};
    }
    pub mod decode {
        pub use crate::command::decode::{Render, Shown, run};
    }
}
pub mod context {
    pub use crate::context::*;
}
pub mod decoder {
    pub use crate::decoder::Decoder;
    pub mod arena {
        pub use crate::decoder::arena::Arena;
    }
    pub mod candidates {
        pub use crate::decoder::candidates::{Candidates, Failure, Limits, Opened};
    }
    pub mod status {
        pub use crate::decoder::status::Status;
    }
    pub mod streams {
        pub use crate::decoder::streams::Streams;
    }
}
pub mod error {
    pub use crate::error::{Error, Fault, FaultKind};
}
pub mod files {
    pub use crate::files::{
        Json, Loaded, RuleForm, SchemaOf, bind, context_entry, load, parse, parse_rules, sa_entry, schema,
    };
}
pub mod ike {
    pub use crate::ike::{ChildSecret, MessageKeys, Secrets, Spis, derive};
}
pub mod link {
    pub use crate::link::{
        Content, EspPorts, Fcs, LinkContent, LinkKey, Reassembled, Reassembler, Receiver, Settings, Standalone,
        encapsulate, parse, parse_plain, parse_standalone, rebuild, replace, udp_encapsulation,
    };
}
pub mod net {
    pub use crate::net::{Datagram, IpHeaders, IpVersion, OuterHeader, Selector, address_value};
    pub mod checksum {
        pub use crate::net::checksum::{internet, upper_layer};
    }
    pub mod protocol {
        pub use crate::net::protocol::*;
    }
    pub mod esp {
        pub use crate::net::esp::{write_header, write_trailer};
    }
}
pub mod records {
    pub mod fields {
        pub use crate::records::fields::Field;
    }
    pub mod filter {
        pub use crate::records::filter::{Evaluation, Filter};
    }
    pub mod inner {
        pub use crate::records::inner::Inner;
    }
    pub mod json {
        pub use crate::records::json::{write_fields, write_line};
    }
    pub mod record {
        pub use crate::records::record::Record;
    }
    pub mod select {
        pub use crate::records::select::Selection;
    }
    pub mod table {
        pub use crate::records::table::Table;
    }
    pub mod totals {
        pub use crate::records::totals::Totals;
    }
}
pub mod sa {
    pub use crate::sa::{Sa, UsedKeys};
    pub mod stream {
        pub use crate::sa::stream::Progress;
    }
    pub mod table {
        pub use crate::sa::table::{Lookup, PreparedSa, SaTable};
    }
}
pub mod schc {
    pub use crate::schc::*;
    pub mod fields {
        pub use crate::schc::fields::*;
    }
}
pub mod secret {
    pub use crate::secret::Secret;
}
pub mod vectors {
    pub use crate::vectors::{Settings, check, make};
}
pub mod wireshark {
    pub use crate::wireshark::{Line, lines, write_folder};
}
