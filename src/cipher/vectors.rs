//! ESP packets from RFCs, drafts and other programs, opened and sealed by [`EspCipher`].

use super::*;
use crate::secret::Secret;

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

/// `key` ends with the salt.
fn cipher(encr: &str, key: &[u8], integ: IntegKey) -> EspCipher {
    let suite = Suite::by_name(encr).unwrap();
    EspCipher::new(&Keys::from_parts(suite, Secret::new(key.to_vec()), None, integ).unwrap())
}

fn integ(name: &str, key: &[u8]) -> IntegKey {
    match name {
        "" => IntegKey::Missing,
        "NONE" => IntegKey::None,
        name => IntegKey::Algorithm(Integ::by_name(name).unwrap(), Secret::new(key.to_vec())),
    }
}

fn opened(cipher: &EspCipher, spi: u32, sn: u64, esn: bool, body: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut clear = vec![0xee; 3];
    let result = cipher.open(spi, sn, esn, body, &mut clear);
    assert!(result.is_ok() || clear.is_empty());
    result.map(|()| clear)
}

/// Checks that `body` opens to `clear`, and that sealing `clear` with the same IV results in `body`.
fn both_ways(cipher: &EspCipher, spi: u32, sn: u64, esn: bool, clear: &[u8], body: &[u8]) {
    assert_eq!(opened(cipher, spi, sn, esn, body).map(hex::encode), Ok(hex::encode(clear)));
    let mut out = b"in front".to_vec();
    cipher.seal(spi, sn, esn, &body[..cipher.iv_len()], clear, &mut out).unwrap();
    assert_eq!(hex::encode(out.strip_prefix(b"in front").unwrap()), hex::encode(body));
}

/// draft-mcgrew-gcm-test-01 §4: all three key lengths, with and without ESN.
#[test]
fn aes_gcm_of_draft_mcgrew_gcm_test() {
    for (key, spi, sn, esn, clear, body) in [
        (
            "4c80cdefbb5d10da906ac73c3613a634 2e443b68",
            0x4321,
            0x8765432100000000,
            true,
            "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963
             796265726369747902646b000021000101020201",
            "4956ed7e3b244cfe fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925b
             f1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732 459018148f6cbe722fd04796562dfdb4",
        ),
        (
            "feffe9928665731c6d6a8f9467308308 cafebabe",
            0xa5f8,
            10,
            false,
            "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000000000000373697009637962657263
             69747902646b00000100010001",
            "facedbaddecaf888 deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d
             0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1 83b70d3aa8bc6ee4c309e9d85a41ad4a",
        ),
        (
            "feffe9928665731c6d6a8f9467308308feffe9928665731c cafebabe",
            0xa5f8,
            10,
            false,
            "45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e501016d075680001",
            "facedbaddecaf888 a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0315b27452144cc77
             95457b9652037f5318027b5b4cd7a636",
        ),
        (
            "abbccddef00112233445566778899aababbccddef00112233445566778899aab 73616c74",
            0x17405e67,
            0x156f3126dd0db99b,
            true,
            "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001",
            "616e640169766563 f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e
             451626c2415771e3b7eebca614c89b35",
        ),
        (
            "7d773d00c144c525ac619d18c84a3f47 d9664267",
            0x335467ae,
            0xffffffff,
            false,
            "01020201",
            "43457e9182443bc6 437f866b cb3f699fe9b0822bac961c4504bef270",
        ),
        (
            "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961 7475726e",
            0x796b6963,
            u64::MAX,
            true,
            "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
            "333021696765746d f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458f
             b57dbe821dcc63b9 d0937ba2945f669368661a329fb4c053",
        ),
    ] {
        let cipher = cipher("ENCR_AES_GCM_16", &unhex(key), IntegKey::Missing);
        both_ways(&cipher, spi, sn, esn, &unhex(clear), &unhex(body));
    }
}

/// RFC 7634 appendix A.
#[test]
fn chacha20_poly1305_of_rfc_7634() {
    let key: Vec<u8> = (0x80..=0xa3).collect();
    let clear = "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f10111213
        1415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363701020204";
    let body = "1011121314151617 24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb
        61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0
        76aaa8266b7fb0f7b11b369907e1ad43";
    let explicit = cipher("ENCR_CHACHA20_POLY1305", &key, IntegKey::Missing);
    both_ways(&explicit, 0x01020304, 5, false, &unhex(clear), &unhex(body));
}

/// RFC 3602 §4, cases 5 and 7.
#[test]
fn aes_cbc_of_rfc_3602() {
    let transport = cipher("ENCR_AES_CBC", &unhex("90d382b410eeba7ad938c46cec1a82bf"), IntegKey::None);
    assert!(!transport.authenticates());
    let clear = "08000ebd a70a0000 8e9c083d b95b0700 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f 20212223
        24252627 28292a2b 2c2d2e2f 30313233 34353637 01020304 05060708 090a0b0c 0d0e0e01";
    let body = "e96e8c08 ab465763 fd098d45 dd3ff893 f663c25d 325c18c6 a9453e19 4e120849 a4870b66 cc6b9965 330013b4
        898dc856 a4699e52 3a55db08 0b59ec3a 8e4b7e52 775b07d1 db34ed9c 538ab50c 551b874a a269add0 47ad2d59 13ac19b7
        cfbad4a6";
    both_ways(&transport, 0x4321, 1, false, &unhex(clear), &unhex(body));

    let tunnel = cipher("ENCR_AES_CBC", &unhex("0123456789abcdef0123456789abcdef"), IntegKey::None);
    let clear = "45000054 09040000 4001f988 c0a87b03 c0a87bc8 08009f76 a90a0100 b49c083d 02a20400 08090a0b 0c0d0e0f
        10111213 14151617 18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637
        01020304 05060708 090a0a04";
    let body = "f4e76524 4f6407ad f13dc138 0f673f37 773b5241 a4c44922 5e4f3ce5 ed611b0c 237ca96c f74a9301 3c1b0ea1
        a0cf70f8 e4ecaec7 8ac53aad 7a0f022b 859243c6 47752e94 a859352b 8a4d4d2d ecd136e5 c177f132 ad3fbfb2 201ac990
        4c74ee0a 109e0ca1 e4dfe9d5 a100b842 f1c22f0d";
    both_ways(&tunnel, 0x8765, 2, false, &unhex(clear), &unhex(body));
}

/// RFC 3686 §6, test vectors 1, 2, 3 and 7.
#[test]
fn aes_ctr_of_rfc_3686() {
    let counted = |len: u8| (0..len).collect::<Vec<u8>>();
    for (key, iv, clear, cipher_text) in [
        (
            "ae6852f8121067cc4bf7a5765577f39e 00000030",
            "0000000000000000",
            b"Single block msg".to_vec(),
            "e4095d4fb7a7b3792d6175a3261311b8",
        ),
        (
            "7e24067817fae0d743d6ce1f32539163 006cb6db",
            "c0543b59da48d90b",
            counted(32),
            "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28",
        ),
        (
            "7691be035e5020a8ac6e618529f9a0dc 00e0017b",
            "27777f3f4a1786f0",
            counted(36),
            "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f",
        ),
        (
            "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104 00000060",
            "db5672c97aa8f0b2",
            b"Single block msg".to_vec(),
            "145ad01dbf824ec7560863dc71e3e0c0",
        ),
    ] {
        let cipher = cipher("ENCR_AES_CTR", &unhex(key), IntegKey::None);
        both_ways(&cipher, 1, 1, false, &clear, &unhex(&format!("{iv}{cipher_text}")));
    }
}

/// The part of `datagram` after its IP header, which has no options.
fn payload(datagram: &[u8]) -> &[u8] {
    &datagram[if datagram[0] >> 4 == 4 { 20 } else { 40 }..]
}

#[test]
fn packets_of_dpdk() {
    let text = include_str!("../../tests/data/vectors/esp_packets_dpdk.json");
    let rows: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    let mut checked = 0;
    for row in &rows {
        let field = |name: &str| row[name].as_str().unwrap();
        let encr = match (field("enc"), row["icv_len"].as_u64().unwrap()) {
            ("AES-GCM", icv_len) => format!("ENCR_AES_GCM_{icv_len}"),
            ("AES-CCM", icv_len) => format!("ENCR_AES_CCM_{icv_len}"),
            ("AES-CBC", _) => "ENCR_AES_CBC".to_owned(),
            ("NULL", _) => "ENCR_NULL".to_owned(),
            _ => continue,
        };
        let name = match field("auth") {
            "NULL" => "NONE",
            "HMAC-SHA-1" => "AUTH_HMAC_SHA1_96",
            "HMAC-SHA-256" => "AUTH_HMAC_SHA2_256_128",
            "HMAC-SHA-384" => "AUTH_HMAC_SHA2_384_192",
            "HMAC-SHA-512" => "AUTH_HMAC_SHA2_512_256",
            _ => continue,
        };
        let key = unhex(&format!("{}{}", field("key"), field("salt")));
        let cipher = cipher(&encr, &key, integ(name, &unhex(field("auth_key"))));
        let packet = unhex(field("packet"));
        let (header, body) = payload(&packet).split_at(8);
        let [spi, sn] = [&header[..4], &header[4..]].map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        let clear = opened(&cipher, spi, u64::from(sn), false, body)
            .unwrap_or_else(|error| panic!("{}: {error:?}", field("id")));
        let [.., pad_len, next_header] = clear[..] else { panic!() };
        assert!([4, 41].contains(&next_header), "{}", field("id"));
        assert_eq!(hex::encode(&clear[..clear.len() - 2 - usize::from(pad_len)]), field("expect"), "{}", field("id"));
        checked += 1;
    }
    assert_eq!(checked, 11);
}

// Computed with Python's `cryptography` (OpenSSL) and `hmac`:
//
//     import hmac, struct
//     from cryptography.hazmat.primitives.ciphers import Cipher, algorithms as a, modes as m
//     from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
//     def row(encr, key_len, esn, integ="NONE", sn=0x0123456789abcdef, clear_len=37):
//         fill = lambda n, start: bytes((start + 7 * i) % 256 for i in range(n))
//         salt_len = 3 if "CCM" in encr else 0 if encr in ("ENCR_AES_CBC", "ENCR_NULL") else 4
//         iv_len = 0 if "IIV" in encr or encr == "ENCR_NULL" else 16 if encr == "ENCR_AES_CBC" else 8
//         key, salt, iv, clear = fill(key_len, 1), fill(salt_len, 0xa0), fill(iv_len, 0x51), fill(clear_len, 0x80)
//         spi, sn = struct.pack(">I", 0xc0ffee01), sn if esn else sn % 2**32
//         low, high = struct.pack(">I", sn % 2**32), struct.pack(">I", sn >> 32) if esn else b""
//         aad, nonce = spi + high + low, salt + (iv or struct.pack(">Q", sn))
//         icv_len = int(encr.split("_")[3]) if encr.startswith(("ENCR_AES_CCM", "ENCR_AES_GCM")) else 16
//         if "CCM" in encr: body = iv + AESCCM(key, icv_len).encrypt(nonce, clear, aad)
//         elif "GCM" in encr: body = iv + AESGCM(key).encrypt(nonce, clear, aad)[:clear_len + icv_len]
//         elif "GMAC" in encr: body = iv + clear + AESGCM(key).encrypt(nonce, b"", aad + iv + clear)
//         elif "CHACHA" in encr: body = iv + ChaCha20Poly1305(key).encrypt(nonce, clear, aad)
//         elif encr == "ENCR_AES_CBC": body = iv + Cipher(a.AES(key), m.CBC(iv)).encryptor().update(clear)
//         elif encr == "ENCR_AES_CTR": body = iv + Cipher(a.AES(key), m.CTR(nonce + b"\0\0\0\1")).encryptor().update(clear)
//         else: body = clear
//         if integ != "NONE":
//             hash, icv_len = {"SHA1": ("sha1", 12), "SHA2": ("sha" + integ.split("_")[3], int(integ.split("_")[-1]) // 8)}[integ.split("_")[2][:4]]
//             key_len = {"sha1": 20}.get(hash, 2 * icv_len)
//             body += hmac.new(fill(key_len, 3), spi + low + body + high, hash).digest()[:icv_len]
//         print(f'    ("{encr}", "{integ}", {key_len if integ == "NONE" else len(key)}, {str(esn).lower()}, 0x{sn:x}, {clear_len}, "{body.hex()}"),')
//     for esn in (False, True):
//         row("ENCR_AES_CCM_8", 16, esn); row("ENCR_AES_CCM_12", 24, esn, clear_len=32); row("ENCR_AES_CCM_16", 32, esn)
//         row("ENCR_AES_GCM_8", 16, esn); row("ENCR_AES_GCM_12", 24, esn, clear_len=32); row("ENCR_AES_GCM_16", 32, esn)
//         row("ENCR_CHACHA20_POLY1305", 32, esn)
//         row("ENCR_AES_CCM_8_IIV", 16, esn); row("ENCR_AES_GCM_16_IIV", 16, esn); row("ENCR_CHACHA20_POLY1305_IIV", 32, esn)
//         row("ENCR_NULL_AUTH_AES_GMAC", 16, esn); row("ENCR_NULL_AUTH_AES_GMAC", 32, esn, clear_len=7)
//         row("ENCR_AES_CBC", 16, esn, "AUTH_HMAC_SHA1_96", clear_len=32); row("ENCR_AES_CBC", 24, esn, "AUTH_HMAC_SHA2_256_128", clear_len=48)
//         row("ENCR_AES_CTR", 16, esn, "AUTH_HMAC_SHA2_384_192"); row("ENCR_AES_CTR", 32, esn, "AUTH_HMAC_SHA2_512_256")
//         row("ENCR_NULL", 0, esn, "AUTH_HMAC_SHA2_256_128")
//     row("ENCR_AES_CCM_8", 16, True, sn=2**64 - 1, clear_len=0); row("ENCR_AES_CCM_16", 16, False, sn=2**32 - 1, clear_len=1)
//     row("ENCR_AES_GCM_16", 16, False, sn=0, clear_len=0); row("ENCR_AES_GCM_16", 24, True, clear_len=200)

/// (encr, integ, key length without salt, ESN, SN, clear text length, body)
#[rustfmt::skip]
const COMPUTED: &[(&str, &str, usize, bool, u64, usize, &str)] = &[
    ("ENCR_AES_CCM_8", "NONE", 16, false, 0x89abcdef, 37, "51585f666d747b82bf325e6a94cf343c18a544e95f59c1cd645bcbfa2a296cb74c00b738854aec4cf1f11c853af84bb32ecf848c54"),
    ("ENCR_AES_CCM_12", "NONE", 24, false, 0x89abcdef, 32, "51585f666d747b82c465d14cd9978123bae13dc81f4ac8f2a22a7acac589e8906ec2dac6d5549ff4fc0ce5fa4bf72fb85251c779"),
    ("ENCR_AES_CCM_16", "NONE", 32, false, 0x89abcdef, 37, "51585f666d747b823c5e2ed2abda7dbc2cbef3d7593ebf7e2fdcaff6348f0f2a6d4be19b9ca5702c2413293b03788dadd5a3b85e734f9ca20bcdab970d"),
    ("ENCR_AES_GCM_8", "NONE", 16, false, 0x89abcdef, 37, "51585f666d747b822e21bbd06ef763ecbecd1e401d9b64803ccc87e855d14df57a68617e15c1d8fff84922041e809363cee351d365"),
    ("ENCR_AES_GCM_12", "NONE", 24, false, 0x89abcdef, 32, "51585f666d747b821f00ddd6dbadb960aa645036f0550533f9195ab4bddfcbc3c73b43be16ab48873605f35b9f71eed1d6976208"),
    ("ENCR_AES_GCM_16", "NONE", 32, false, 0x89abcdef, 37, "51585f666d747b826f8ddca1e1c79a14d33b5443deb5fcc7f3328c3e8c13f1e57256860738a79d37cb6cae123b2dd90c1417ef19fdcca0b12768768d77"),
    ("ENCR_CHACHA20_POLY1305", "NONE", 32, false, 0x89abcdef, 37, "51585f666d747b8267821446dc5fd096e1e383a127f9d96fd6983fb19c63c72dc9562d18be1dc372ddefb85cbc4354a7727e2a3c5563276c67e8bd2955"),
    ("ENCR_AES_CCM_8_IIV", "NONE", 16, false, 0x89abcdef, 37, "340624f100ba555be2f463dbed0e91cc42e4524424333e085dbe31f07ba7d131477f180d8ef7f37f185e534d05"),
    ("ENCR_AES_GCM_16_IIV", "NONE", 16, false, 0x89abcdef, 37, "47b8c562ef158283175ff569e0cd5d9d8340a677c467f57b55b51eb53095222a862a8b482a8812b6ec60fb1ab22a76f26c7f8e83e2"),
    ("ENCR_CHACHA20_POLY1305_IIV", "NONE", 32, false, 0x89abcdef, 37, "f6902ebaf9a3951351d35fc7dfc32e47d2d20dd1017efea7a8d7d594c81ac85551a28daf0d94c9234305da68b0342f778856b0b76d"),
    ("ENCR_NULL_AUTH_AES_GMAC", "NONE", 16, false, 0x89abcdef, 37, "51585f666d747b8280878e959ca3aab1b8bfc6cdd4dbe2e9f0f7fe050c131a21282f363d444b525960676e757c2c052c8d64616a27e024d539413c6661"),
    ("ENCR_NULL_AUTH_AES_GMAC", "NONE", 32, false, 0x89abcdef, 7, "51585f666d747b8280878e959ca3aa5792368742e411cd85cd24cad84a8e80"),
    ("ENCR_AES_CBC", "AUTH_HMAC_SHA1_96", 16, false, 0x89abcdef, 32, "51585f666d747b828990979ea5acb3bac084604a50287e9c1a1709dcdb4226c82af301ed38bd72e5f56bf8560eecf33c68e963ce851364fa759bade5"),
    ("ENCR_AES_CBC", "AUTH_HMAC_SHA2_256_128", 24, false, 0x89abcdef, 48, "51585f666d747b828990979ea5acb3ba9bfe0c9e6fc2cb7d091ec439bc237dc9c8ddd572880058bf3d7d0704a66a8f3a42a586f19132879dc826617feecebe7cd66f676b3cef7047ad3a2242e10db56e"),
    ("ENCR_AES_CTR", "AUTH_HMAC_SHA2_384_192", 16, false, 0x89abcdef, 37, "51585f666d747b828b1e3bb9a9d8907ed436718ac84edce85e51cb40fe47d37c2e5deeb08d0bd430ac5c179825371790c637c679ccc26f08cf8c1434ffaa9bb7ed63a71ea2"),
    ("ENCR_AES_CTR", "AUTH_HMAC_SHA2_512_256", 32, false, 0x89abcdef, 37, "51585f666d747b820b7ffd4caf8b0d676327ab4dfdfbeffc1ffdac3171772a8443aba4b34e254c7763a21c4efce6c957ef632f40909ff2d1726d59fecf75dfde7806671a8ca1990460f8fb0947"),
    ("ENCR_NULL", "AUTH_HMAC_SHA2_256_128", 0, false, 0x89abcdef, 37, "80878e959ca3aab1b8bfc6cdd4dbe2e9f0f7fe050c131a21282f363d444b525960676e757c4f593c2643e81832d83f1d2cb90feb5d"),
    ("ENCR_AES_CCM_8", "NONE", 16, true, 0x123456789abcdef, 37, "51585f666d747b82bf325e6a94cf343c18a544e95f59c1cd645bcbfa2a296cb74c00b738854aec4cf1f11c853a21960095d71c1f06"),
    ("ENCR_AES_CCM_12", "NONE", 24, true, 0x123456789abcdef, 32, "51585f666d747b82c465d14cd9978123bae13dc81f4ac8f2a22a7acac589e8906ec2dac6d5549ff4047d66ad29ba93dfcbf711c9"),
    ("ENCR_AES_CCM_16", "NONE", 32, true, 0x123456789abcdef, 37, "51585f666d747b823c5e2ed2abda7dbc2cbef3d7593ebf7e2fdcaff6348f0f2a6d4be19b9ca5702c2413293b039e581b9cb9c7bfc81285084b425549a3"),
    ("ENCR_AES_GCM_8", "NONE", 16, true, 0x123456789abcdef, 37, "51585f666d747b822e21bbd06ef763ecbecd1e401d9b64803ccc87e855d14df57a68617e15c1d8fff84922041eb2705a4a50984466"),
    ("ENCR_AES_GCM_12", "NONE", 24, true, 0x123456789abcdef, 32, "51585f666d747b821f00ddd6dbadb960aa645036f0550533f9195ab4bddfcbc3c73b43be16ab4887b0b56daee4aabed4608f52f8"),
    ("ENCR_AES_GCM_16", "NONE", 32, true, 0x123456789abcdef, 37, "51585f666d747b826f8ddca1e1c79a14d33b5443deb5fcc7f3328c3e8c13f1e57256860738a79d37cb6cae123be14360bdb4afc3705d632d2454e044ee"),
    ("ENCR_CHACHA20_POLY1305", "NONE", 32, true, 0x123456789abcdef, 37, "51585f666d747b8267821446dc5fd096e1e383a127f9d96fd6983fb19c63c72dc9562d18be1dc372ddefb85cbce058d182f77e749f88133c19098cfa89"),
    ("ENCR_AES_CCM_8_IIV", "NONE", 16, true, 0x123456789abcdef, 37, "a8f9d6bb8559d4d65d1cb41451d8c5a01d6ecc2a160dfd306f2bb28b383e43ceee50c142331568c224d1f8d126"),
    ("ENCR_AES_GCM_16_IIV", "NONE", 16, true, 0x123456789abcdef, 37, "adfbd23f5a981ebd132979a1244e3814d7d7ece8315e736add3413e16e1be2483bff330438b9672dceb6b21ecb77d39922d0bb2f43"),
    ("ENCR_CHACHA20_POLY1305_IIV", "NONE", 32, true, 0x123456789abcdef, 37, "a2c89a17c84254e54aea79e08569752ef265a5e9420919ae2a6a9adb70f2db0b1d18979ce297d6b0f4497fce8de9942da3c106cb79"),
    ("ENCR_NULL_AUTH_AES_GMAC", "NONE", 16, true, 0x123456789abcdef, 37, "51585f666d747b8280878e959ca3aab1b8bfc6cdd4dbe2e9f0f7fe050c131a21282f363d444b525960676e757c766d7a4123cbfef991fca51cd135d3b0"),
    ("ENCR_NULL_AUTH_AES_GMAC", "NONE", 32, true, 0x123456789abcdef, 7, "51585f666d747b8280878e959ca3aab95401b5da2778308f22dcd05465796e"),
    ("ENCR_AES_CBC", "AUTH_HMAC_SHA1_96", 16, true, 0x123456789abcdef, 32, "51585f666d747b828990979ea5acb3bac084604a50287e9c1a1709dcdb4226c82af301ed38bd72e5f56bf8560eecf33c83df879bb1b8ac3f081dd4fb"),
    ("ENCR_AES_CBC", "AUTH_HMAC_SHA2_256_128", 24, true, 0x123456789abcdef, 48, "51585f666d747b828990979ea5acb3ba9bfe0c9e6fc2cb7d091ec439bc237dc9c8ddd572880058bf3d7d0704a66a8f3a42a586f19132879dc826617feecebe7cab1f29908d495ce8b7d775793ea0ca9c"),
    ("ENCR_AES_CTR", "AUTH_HMAC_SHA2_384_192", 16, true, 0x123456789abcdef, 37, "51585f666d747b828b1e3bb9a9d8907ed436718ac84edce85e51cb40fe47d37c2e5deeb08d0bd430ac5c1798255358fb01de300ea33ff554369b4c70f6b34936ee33146dd6"),
    ("ENCR_AES_CTR", "AUTH_HMAC_SHA2_512_256", 32, true, 0x123456789abcdef, 37, "51585f666d747b820b7ffd4caf8b0d676327ab4dfdfbeffc1ffdac3171772a8443aba4b34e254c7763a21c4efc4680d6d819a8df7653460dc8b3f9a9c66960a51bfedecf65024b9a4ee5e6baec"),
    ("ENCR_NULL", "AUTH_HMAC_SHA2_256_128", 0, true, 0x123456789abcdef, 37, "80878e959ca3aab1b8bfc6cdd4dbe2e9f0f7fe050c131a21282f363d444b525960676e757cca7589b40a04dc30d5e147b16e910104"),
    ("ENCR_AES_CCM_8", "NONE", 16, true, 0xffffffffffffffff, 0, "51585f666d747b825649b39d1bd8c444"),
    ("ENCR_AES_CCM_16", "NONE", 16, false, 0xffffffff, 1, "51585f666d747b82bf9fbc93fd8f6472d69af6dc05db6a4719"),
    ("ENCR_AES_GCM_16", "NONE", 16, false, 0x0, 0, "51585f666d747b822c32b170ece2b0398cca83813c42d100"),
    ("ENCR_AES_GCM_16", "NONE", 24, true, 0x123456789abcdef, 200, "51585f666d747b821f00ddd6dbadb960aa645036f0550533f9195ab4bddfcbc3c73b43be16ab48871d8511c3341c20fe34746f9a1812cb5461682c9b7484980f3f58919e9a46f791fd4f9b4588ad3383ce75e33220a34a86e0db8fc7000b91e9165aa4defd08f3aa9bdf5df36d9947443e178b9fad8c66093cd11bdd0dfcd2d2c9db0337a1cd514c12798eda27e6a952ece77fb7ab7e72a30dff4a4aa3dee39df6bd51aebbd7a388f30e06b1ab97ca1fa4f81f3975cd78fd3d08499cbb465627a2dfd78263c7bc757b7c0d6a477f12f55fd4dcda76f3603e533b0106d9a9630a"),
];

/// `len` bytes, each 7 more than the one before.
fn fill(len: usize, start: usize) -> Vec<u8> {
    (0..len).map(|i| (start + 7 * i) as u8).collect()
}

/// The cipher for a row of the table.
fn computed(encr: &str, integ_name: &str, key_len: usize) -> EspCipher {
    let key = [fill(key_len, 1), fill(Suite::by_name(encr).unwrap().salt_len, 0xa0)].concat();
    let integ = Integ::by_name(integ_name).map(|row| integ(integ_name, &fill(row.key_len, 3)));
    cipher(encr, &key, integ.unwrap_or_default())
}

#[test]
fn every_suite_equals_python_cryptography() {
    for &(encr, integ_name, key_len, esn, sn, clear_len, body) in COMPUTED {
        let cipher = computed(encr, integ_name, key_len);
        assert!(cipher.authenticates());
        both_ways(&cipher, 0xc0ffee01, sn, esn, &fill(clear_len, 0x80), &unhex(body));
        if !esn {
            // Without ESN, the high half is ignored.
            assert!(opened(&cipher, 0xc0ffee01, sn | 7 << 32, esn, &unhex(body)).is_ok());
        }
    }
    for suite in SUITES {
        assert!(COMPUTED.iter().any(|row| row.0 == suite.name), "{} is not tested", suite.name);
    }
}

#[test]
fn every_bit_is_authenticated() {
    for &(encr, integ_name, key_len, esn, sn, _, body) in COMPUTED {
        let cipher = computed(encr, integ_name, key_len);
        let (spi, body) = (0xc0ffee01, unhex(body));
        let wrong = Err(OpenError::NotAuthentic);
        for bit in 0..body.len() * 8 {
            let mut body = body.clone();
            body[bit / 8] ^= 0x80 >> (bit % 8);
            assert_eq!(opened(&cipher, spi, sn, esn, &body), wrong, "{encr}, bit {bit}");
        }
        for bit in 0..32 {
            assert_eq!(opened(&cipher, spi ^ 1 << bit, sn, esn, &body), wrong, "{encr}, SPI, bit {bit}");
        }
        for bit in 0..if esn { 64 } else { 32 } {
            assert_eq!(opened(&cipher, spi, sn ^ 1 << bit, esn, &body), wrong, "{encr}, SN, bit {bit}");
        }
        assert_eq!(opened(&cipher, spi, sn, !esn, &body), wrong, "{encr}, ESN or not");
    }
}

#[test]
fn short_and_unaligned_bodies_are_rejected() {
    for &(encr, integ_name, key_len, esn, sn, _, body) in COMPUTED {
        let cipher = computed(encr, integ_name, key_len);
        let body = unhex(body);
        for len in 0..body.len() {
            let expected = match len.checked_sub(cipher.iv_len() + cipher.icv_len()) {
                None => OpenError::Short,
                Some(len) if len % cipher.block() != 0 => OpenError::Block,
                Some(_) => OpenError::NotAuthentic,
            };
            assert_eq!(opened(&cipher, 0xc0ffee01, sn, esn, &body[..len]), Err(expected), "{encr}, {len} bytes");
        }
        let mut out = vec![];
        let iv = vec![0; cipher.iv_len() + 1];
        assert_eq!(cipher.seal(1, 1, esn, &iv, &[0; 48], &mut out), Err(crate::cipher::esp_cipher::SealError::Iv));
        if cipher.block() > 1 {
            assert_eq!(
                cipher.seal(1, 1, esn, &iv[1..], &[0; 47], &mut out),
                Err(crate::cipher::esp_cipher::SealError::Block)
            );
        }
        assert!(out.is_empty());
    }
}

#[test]
fn without_a_check_every_icv_is_accepted() {
    let any = "ANY 96 bit authentication [no checking]";
    let unchecked = cipher("ENCR_AES_CTR", &fill(20, 1), integ(any, &[]));
    let none = cipher("ENCR_AES_CTR", &fill(20, 1), IntegKey::None);
    assert!(!unchecked.authenticates() && !none.authenticates());
    assert_eq!((unchecked.icv_len(), none.icv_len()), (12, 0));
    let body = fill(8 + 30, 9);
    let clear = opened(&none, 1, 1, false, &body).unwrap();
    assert_eq!(clear.len(), 30);
    assert_eq!(opened(&unchecked, 2, 2, false, &[body, vec![0x55; 12]].concat()), Ok(clear));
    assert_eq!(opened(&unchecked, 1, 1, false, &[0; 19]), Err(OpenError::Short));
    let null = cipher("ENCR_NULL", &[], IntegKey::None);
    both_ways(&null, 1, 1, false, b"as it is", b"as it is");
}

/// The `zeroize` features of the cipher crates are enabled.
#[test]
fn key_schedules_are_wiped_when_dropped() {
    fn check<T: zeroize::ZeroizeOnDrop>() {}
    check::<::aes::Aes128>();
    check::<::aes::Aes192>();
    check::<::aes::Aes256>();
    check::<chacha20poly1305::ChaCha20Poly1305>();
    check::<sha1::Sha1>();
    check::<sha2::Sha256>();
    check::<sha2::Sha512>();
    check::<Secret>();
}

/// Wireshark decrypts AES-CCM as AES-CTR if the salt is preceded by 03.
#[test]
fn ccm_and_ctr_have_the_same_key_stream() {
    let key = fill(16, 1);
    let ccm = cipher("ENCR_AES_CCM_8", &[&key[..], &[0xa0, 0xa7, 0xae]].concat(), IntegKey::Missing);
    let names = ccm.suite().wireshark.unwrap();
    assert_eq!(names.encryption, "AES-CTR [RFC3686]");
    let integ = integ(names.authentication.unwrap(), &[]);
    let ctr = cipher("ENCR_AES_CTR", &[&key[..], &[3, 0xa0, 0xa7, 0xae]].concat(), integ);
    let body = unhex(COMPUTED[0].6);
    assert_eq!(opened(&ctr, 0, 0, false, &body), opened(&ccm, 0xc0ffee01, 0x89abcdef, false, &body));
}

#[test]
fn an_esp_cipher_shows_no_secret_and_is_send_and_sync() {
    fn check<T: Send + Sync>(_: &T) {}
    let cipher = cipher("ENCR_AES_GCM_16", &[0xab; 20], IntegKey::Missing);
    check(&cipher);
    assert_eq!(format!("{cipher:?}"), "EspCipher { suite: \"ENCR_AES_GCM_16\", .. }");
}

#[test]
fn a_search_finds_the_number_at_any_position() {
    for &(encr, integ_name, key_len, esn, sn, clear_len, body) in COMPUTED {
        let cipher = computed(encr, integ_name, key_len);
        let (spi, body, mut clear) = (0xc0ffee01, unhex(body), vec![1]);
        let others =
            |count: u64| (1..=count).map(move |n| sn.wrapping_add(n * 0x10001) & if esn { !0 } else { 0xffffffff });
        for before in [0, 1, 6, 7, 8, 9, 100] {
            for after in [0, 1, 20] {
                let candidates = others(before).chain([sn]).chain(others(after));
                assert_eq!(cipher.open_search(spi, candidates, esn, &body, &mut clear), Ok(sn), "{encr}, {before}");
                assert_eq!(clear, fill(clear_len, 0x80));
            }
            let wrong = Err(OpenError::NotAuthentic);
            assert_eq!(cipher.open_search(spi, others(before), esn, &body, &mut clear), wrong, "{encr}");
            assert!(clear.is_empty());
            assert_eq!(cipher.open_search(spi ^ 1, others(before).chain([sn]), esn, &body, &mut clear), wrong);
        }
        let short = &body[..cipher.iv_len() + cipher.icv_len() - 1];
        assert_eq!(cipher.open_search(spi, [sn], esn, short, &mut clear), Err(OpenError::Short));
    }
    let unchecked = cipher("ENCR_AES_CTR", &fill(20, 1), IntegKey::None);
    assert_eq!(unchecked.open_search(1, [5, 6], false, &[0; 20], &mut vec![]), Ok(5));
}

#[test]
fn a_whole_icv_reveals_spi_and_number() {
    let mut recovered = 0;
    for &(encr, integ_name, key_len, esn, sn, _, body) in COMPUTED {
        let cipher = computed(encr, integ_name, key_len);
        let (body, mut scratch) = (unhex(body), vec![]);
        let possible = ["ENCR_AES_CCM_16", "ENCR_AES_GCM_16", "ENCR_NULL_AUTH_AES_GMAC"].contains(&encr);
        let expected = possible.then_some((0xc0ffee01, sn));
        assert_eq!(cipher.recover_aad(&body, esn, &mut scratch), expected, "{encr}");
        assert!(scratch.is_empty());
        recovered += usize::from(possible);
        for bit in 0..body.len() * 8 {
            let mut body = body.clone();
            body[bit / 8] ^= 0x80 >> (bit % 8);
            assert_eq!(cipher.recover_aad(&body, esn, &mut scratch), None, "{encr}, bit {bit}");
        }
        for len in 0..body.len() {
            assert_eq!(cipher.recover_aad(&body[..len], esn, &mut scratch), None, "{encr}, {len} bytes");
        }
    }
    assert_eq!(recovered, 11);
}

proptest::proptest! {
    /// Random lengths, incomplete groups and damaged bytes: opening in parallel opens the same packets as one by
    /// one.
    #[test]
    fn opening_in_parallel_equals_opening_one_by_one(
        encr in proptest::sample::select(vec![
            "ENCR_AES_CCM_8", "ENCR_AES_CCM_16", "ENCR_AES_CCM_8_IIV", "ENCR_AES_GCM_16", "ENCR_AES_GCM_16_IIV",
            "ENCR_NULL_AUTH_AES_GMAC",
        ]),
        esn: bool,
        lens in proptest::collection::vec(0usize..150, 1..=SIDE_BY_SIDE),
        damage in proptest::option::of((0..SIDE_BY_SIDE, 0usize..200, 1u8..)),
        cut in proptest::option::of((0..SIDE_BY_SIDE, 0usize..40)),
    ) {
        let suite = Suite::by_name(encr).unwrap();
        let key: Vec<u8> = (1..).take(16 + suite.salt_len).collect();
        let cipher = cipher(encr, &key, IntegKey::Missing);
        let mut bodies = vec![];
        for (sn, len) in lens.iter().enumerate() {
            let mut body = vec![];
            let clear: Vec<u8> = (0..*len).map(|at| (at * 3 + sn) as u8).collect();
            let iv = vec![sn as u8; cipher.iv_len()];
            cipher.seal(7, sn as u64 + (1 << 32), esn, &iv, &clear, &mut body).unwrap();
            bodies.push(body);
        }
        if let Some((body, at, change)) = damage
            && let Some(byte) = bodies.get_mut(body).and_then(|body| body.get_mut(at))
        {
            *byte ^= change;
        }
        if let Some((body, len)) = cut
            && let Some(body) = bodies.get_mut(body)
        {
            body.truncate(len);
        }
        let packets: Vec<_> =
            bodies.iter().enumerate().map(|(sn, body)| OpenRequest { spi: 7, sn: sn as u64 + (1 << 32), body }).collect();
        let expected: Vec<_> =
            packets.iter().map_while(|packet| opened(&cipher, 7, packet.sn, esn, packet.body).ok()).collect();
        let mut clear = vec![0xee; 5];
        let count = cipher.open_side_by_side(esn, &packets, &mut Scratch::default(), &mut clear);
        proptest::prop_assert_eq!(count, expected.len());
        for (packet, expected) in packets.iter().zip(&expected) {
            proptest::prop_assert_eq!(cipher.clear_len(packet.body.len()), expected.len());
        }
        proptest::prop_assert_eq!(clear, [vec![0xee; 5], expected.concat()].concat());
    }

    /// Random ciphers, lengths, packet counts and damaged bytes: opening with several keys equals opening one by
    /// one.
    #[test]
    fn several_keys_equal_one_by_one(
        packets in proptest::collection::vec(
            (0..SUITES.len(), 0usize..150, proptest::option::of((0usize..200, 1u8..)), proptest::option::of(0usize..40)),
            0..=SIDE_BY_SIDE,
        ),
        esn: bool,
    ) {
        let keys = |n| Keys::generate(&SUITES[n], &mut Random::new(Some(n as u64), "test")).unwrap();
        let ciphers: Vec<_> = packets.iter().map(|(suite, ..)| EspCipher::new(&keys(*suite))).collect();
        let mut bodies = vec![];
        for (sn, ((_, len, damage, cut), cipher)) in packets.iter().zip(&ciphers).enumerate() {
            let mut body = vec![];
            let clear: Vec<u8> = (0..len.next_multiple_of(cipher.block())).map(|at| (at * 3 + sn) as u8).collect();
            let iv = vec![sn as u8; cipher.iv_len()];
            cipher.seal(7, sn as u64 + (1 << 32), esn, &iv, &clear, &mut body).unwrap();
            if let Some((byte, change)) = damage.and_then(|(at, change)| Some((body.get_mut(at)?, change))) {
                *byte ^= change;
            }
            body.truncate(cut.unwrap_or(usize::MAX));
            bodies.push(body);
        }
        let apart: Vec<_> = ciphers
            .iter()
            .zip(bodies.iter().enumerate())
            .map(|(cipher, (sn, body))| MultiKeyRequest { cipher, esn, sealed: OpenRequest { spi: 7, sn: sn as u64 + (1 << 32), body } })
            .collect();
        let mut clear = vec![0xee; 5];
        let places = open_multi_key(&apart, &mut Scratch::default(), &mut clear, || {});
        proptest::prop_assert!(clear.starts_with(&[0xee; 5]));
        let mut wiped = clear.clone();
        wiped.drain(..5);
        for (MultiKeyRequest { cipher, sealed, .. }, place) in apart.iter().zip(&places) {
            let expected = opened(cipher, 7, sealed.sn, esn, sealed.body).ok();
            proptest::prop_assert_eq!(place.clone().map(|range| clear[range].to_vec()), expected);
            if let Some(range) = place {
                wiped[range.start - 5..range.end - 5].fill(0);
            }
        }
        proptest::prop_assert!(places[apart.len()..].iter().all(Option::is_none));
        proptest::prop_assert!(wiped.iter().all(|byte| *byte == 0), "nothing of the others stays");
    }
}
