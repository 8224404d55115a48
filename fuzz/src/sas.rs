//! Security Associations of every cipher suite, for every context of `contexts.yaml`.

use std::path::Path;
use std::sync::OnceLock;

use dietesp::context::{Context, Dialect, Origin};
use dietesp::files;
use dietesp::sa::table::{Entry, SaTable};
use dietesp::sa::{Sa, Selector};
use dietesp::secret::Secret;
use dietesp::suite::{INTEGS, IntegKey, Keys, SUITES};

pub fn contexts() -> &'static [Context] {
    static CONTEXTS: OnceLock<Vec<Context>> = OnceLock::new();
    CONTEXTS.get_or_init(|| {
        let path = Path::new("contexts.yaml");
        files::parse(path, include_bytes!("contexts.yaml")).unwrap_or_else(|error| panic!("{error:?}")).contexts
    })
}

/// The contexts of one dialect, as rule files name it.
pub fn of_dialect(name: &str) -> Vec<&'static Context> {
    let named = |context: &&Context| match &context.dialect {
        Dialect::Ietf(_) => name == "ietf",
        Dialect::Ehc(_) => name == "ehc",
        Dialect::SixLo(_) => name == "6lo",
        Dialect::Custom(_) => name == "custom",
    };
    contexts().iter().filter(named).collect()
}

/// One table a context, and one for standard ESP: the SAs of all suites, every second one with ESN.
pub fn tables() -> &'static [SaTable] {
    static TABLES: OnceLock<Vec<SaTable>> = OnceLock::new();
    TABLES.get_or_init(|| contexts().iter().map(Some).chain([None]).map(table).collect())
}

fn table(context: Option<&Context>) -> SaTable {
    SaTable::new(
        keys()
            .into_iter()
            .zip(0u32..)
            .filter_map(|(keys, index)| {
                let sa = Sa {
                    name: format!("sa-{index}"),
                    // The low 8 bits are the same for all: the ICV tells them apart.
                    spi: Some(index << 8 | 0xa1),
                    src: Selector::Any,
                    dst: Selector::Any,
                    link_src: None,
                    link_dst: None,
                    keys,
                    esn: index % 2 == 1,
                    sn_hint: None,
                    alternative_to: None,
                    origin: Origin { path: Path::new("keys.yaml").into(), line: 1 },
                };
                let blocks = sa.keys.suite().block > 1;
                let entry = Entry::new(sa, context.cloned());
                // Without padding no cipher with blocks.
                assert!(entry.is_ok() || blocks, "{entry:?}");
                entry.ok()
            })
            .collect(),
    )
}

/// Keys of every suite; where integrity is an algorithm of its own, of every one and of none.
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
            let key = Secret::new(vec![all.len() as u8; suite.key_lens.first().copied().unwrap_or(0)]);
            let salt = Secret::new(vec![0x33; suite.salt_len]);
            all.push(Keys::new(suite, key, salt, integ).unwrap_or_else(|error| panic!("{error}")));
        }
    }
    all
}
