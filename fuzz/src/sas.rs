//! Security Associations of every cipher suite, for every context of `contexts.yaml`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use dietesp::internals::cipher::{INTEGS, IntegKey, Keys, SUITES};
use dietesp::internals::codec::Codec;
use dietesp::internals::context::{Context, Origin};
use dietesp::internals::files::{self, Loaded};
use dietesp::internals::net::Selector;
use dietesp::internals::sa::Sa;
use dietesp::internals::sa::table::{PreparedSa, SaTable};
use dietesp::internals::secret::Secret;

fn read(name: &str, bytes: &[u8]) -> Loaded {
    files::parse(Path::new(name), bytes).unwrap_or_else(|error| panic!("{error}"))
}

fn contexts() -> Vec<Context> {
    read("contexts.yaml", include_bytes!("contexts.yaml")).contexts
}

/// The SAs of the test vectors, which have every value of every attribute, for all outer addresses.
pub fn of_vectors() -> Vec<PreparedSa> {
    let keys = read("keys.yaml", include_bytes!("../../samples/vectors/keys.yaml")).sas;
    let contexts = read("rules.yaml", include_bytes!("../../samples/vectors/rules.yaml")).contexts;
    let bound = files::bind(&keys, &contexts).unwrap_or_else(|error| panic!("{error}"));
    let entries = keys.into_iter().zip(bound).map(|(sa, context)| {
        let sa = Arc::into_inner(sa).expect("nothing else holds it");
        let sa = Sa { src: Selector::Any, dst: Selector::Any, ..sa };
        let context = context.and_then(|at| contexts.get(at)).cloned();
        PreparedSa::new(sa, context).unwrap_or_else(|error| panic!("{error}"))
    });
    entries.collect()
}

/// The codecs of a context, for a cipher without blocks and, if its rules can pad, for one with blocks of 16 bytes.
pub type Codecs = (Codec, Option<Codec>);

/// The codecs of all contexts of one dialect: those of `contexts.yaml` and of the test vectors.
pub fn codecs(dialect: &str) -> &'static [Codecs] {
    static CODECS: OnceLock<HashMap<&str, Vec<Codecs>>> = OnceLock::new();
    let of_all = CODECS.get_or_init(|| {
        let mut codecs: HashMap<&str, Vec<Codecs>> = HashMap::new();
        let vectors = of_vectors().into_iter().filter_map(|entry| entry.context.as_deref().cloned());
        for context in contexts().into_iter().chain(vectors) {
            let codec = Codec::new(Some(&context), 1).unwrap_or_else(|error| panic!("{error}"));
            let with_blocks = Codec::new(Some(&context), 16).ok();
            codecs.entry(context.dialect.name()).or_default().push((codec, with_blocks));
        }
        codecs
    });
    of_all.get(dialect).map_or(&[], Vec::as_slice)
}

/// One table for each context: the SAs of all suites for a context of `contexts.yaml`, or the SA of a test vector.
/// The last one is for standard ESP.
pub fn tables() -> &'static [SaTable] {
    static TABLES: OnceLock<Vec<SaTable>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let own = contexts().into_iter().map(|context| table(Some(&context)));
        let vectors = of_vectors().into_iter().map(|entry| SaTable::new(vec![entry]));
        own.chain(vectors).chain([table(None)]).collect()
    })
}

fn table(context: Option<&Context>) -> SaTable {
    SaTable::new(
        keys()
            .into_iter()
            .zip(0u32..)
            .filter_map(|(keys, index)| {
                let sa = Sa {
                    name: format!("sa-{index}"),
                    // The low 8 bits are the same for all SAs, so the ICV distinguishes them.
                    spi: Some(index << 8 | 0xa1),
                    src: Selector::Any,
                    dst: Selector::Any,
                    link_src: None,
                    link_dst: None,
                    keys,
                    esn: index % 2 == 1,
                    sn_hint: None,
                    read_as_ccm: false,
                    origin: Origin { path: Path::new("keys.yaml").into(), line: 1 },
                };
                let blocks = sa.keys.suite().block > 1;
                let entry = PreparedSa::new(sa, context.cloned());
                // Ciphers with blocks need padding.
                assert!(entry.is_ok() || blocks, "{entry:?}");
                entry.ok()
            })
            .collect(),
    )
}

/// Keys of every suite, with one of its key lengths. If integrity is a separate algorithm, with every algorithm and
/// with none.
fn keys() -> Vec<Keys> {
    let mut all = vec![];
    for suite in SUITES {
        let integs = match suite.is_aead() {
            true => vec![IntegKey::Missing],
            false => INTEGS
                .iter()
                .map(|integ| IntegKey::Algorithm(integ, Secret::new(vec![0x22; integ.key_len])))
                .chain([IntegKey::None])
                .collect(),
        };
        for integ in integs {
            let key_len = suite.key_lens.get(all.len() % suite.key_lens.len().max(1)).copied().unwrap_or(0);
            let key = Secret::new(vec![all.len() as u8; key_len]);
            let salt = Secret::new(vec![0x33; suite.salt_len]);
            all.push(Keys::new(suite, key, salt, integ).unwrap_or_else(|error| panic!("{error}")));
        }
    }
    all
}
