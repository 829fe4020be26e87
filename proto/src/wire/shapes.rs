//! Pins the encoding of everything that crosses the wire: bincode writes values one behind the other without names, so that a
//! type with another field, variant or order is another protocol.
//!
//! A deserializer that makes values up walks through requests and responses many times, each time along other variants,
//! options and lengths, and notes which kinds of value it is asked for. The digest of these notes changes with every change
//! of a type, and stays with every change of a name.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::U32Deserializer;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess, Visitor};

use crate::preamble::PROTOCOL;
use crate::service::{PyexecRequest, PyexecResponse};

/// Has the test write the file, once the protocol number has been raised.
const WRITE_VARIABLE: &str = "PYEXEC_WRITE_SHAPES";

/// Ways through each type. Each choice is taken hundreds of times.
const WALKS: u64 = 20_000;

type Error = serde::de::value::Error;

/// Makes values up, and notes what it was asked for.
struct Inventor {
    state: u64,
    /// FNV-1a of the kinds of value so far.
    digest: u64,
    kinds: u64,
}

impl Inventor {
    fn note(&mut self, kind: &str) {
        self.kinds += 1;
        for byte in kind.bytes().chain([b';']) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// A number below `bound`, by a linear congruential generator, whose high bits are good.
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 33).expect("has 31 bits") % bound
    }
}

/// Values that nothing refuses: no number is 0, bytes are as long as an id.
macro_rules! invented {
    ($($method:ident $visit:ident $value:expr, $kind:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.note($kind);
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Inventor {
    type Error = Error;

    invented! {
        deserialize_i8 visit_i8 1, "i8";
        deserialize_i16 visit_i16 1, "i16";
        deserialize_i32 visit_i32 1, "i32";
        deserialize_i64 visit_i64 1, "i64";
        deserialize_u8 visit_u8 1, "u8";
        deserialize_u16 visit_u16 1, "u16";
        deserialize_u32 visit_u32 1, "u32";
        deserialize_u64 visit_u64 1, "u64";
        deserialize_f32 visit_f32 1.0, "f32";
        deserialize_f64 visit_f64 1.0, "f64";
        deserialize_char visit_char 'a', "char";
        deserialize_bool visit_bool true, "bool";
        deserialize_str visit_str "", "text";
        deserialize_string visit_str "", "text";
        deserialize_bytes visit_bytes &[1; 16], "bytes";
        deserialize_byte_buf visit_byte_buf vec![1; 16], "bytes";
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        panic!("bincode does not say what comes next, so no type may ask")
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note("option");
        if self.below(2) == 0 { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note("list");
        let left = self.below(3);
        visitor.visit_seq(Parts { inventor: self, left })
    }

    // A structure is its fields, one behind the other, as a tuple is.
    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Parts { inventor: self, left: length })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        panic!("no type of the wire is a map: give this deserializer a way to make one")
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let chosen = self.below(variants.len());
        self.note(&format!("variant {chosen} of {}", variants.len()));
        visitor.visit_enum(Chosen { inventor: self, chosen })
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        panic!("bincode writes no names")
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        panic!("bincode cannot skip what it does not know")
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a list, or the fields of a structure.
struct Parts<'a> {
    inventor: &'a mut Inventor,
    left: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.inventor).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A variant that has been chosen.
struct Chosen<'a> {
    inventor: &'a mut Inventor,
    chosen: usize,
}

impl<'de> EnumAccess<'de> for Chosen<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let number: U32Deserializer<Error> = u32::try_from(self.chosen).expect("there are few").into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.inventor)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Parts { inventor: self.inventor, left: length })
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Parts { inventor: self.inventor, left: fields.len() })
    }
}

/// The digest of a type's encoding, and how many values were invented for it.
fn digest<T: for<'de> Deserialize<'de>>() -> (u64, u64) {
    let mut inventor = Inventor { state: 1, digest: 0xcbf2_9ce4_8422_2325, kinds: 0 };
    for _ in 0..WALKS {
        // A value that its type refuses is noted as far as it went.
        if T::deserialize(&mut inventor).is_err() {
            inventor.note("refused");
        }
    }
    (inventor.digest, inventor.kinds)
}

fn file() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).join("src/wire/shapes.txt")
}

#[test]
fn a_change_of_what_crosses_the_wire_raises_the_protocol_number() {
    let ((requests, _), (responses, _)) = (digest::<PyexecRequest>(), digest::<PyexecResponse>());
    let now = format!("protocol {PROTOCOL}: requests {requests:016x}, responses {responses:016x}\n");
    let known = std::fs::read_to_string(file()).unwrap_or_default();
    let last = known.lines().last().unwrap_or_default();
    if last == now.trim_end() {
        return;
    }
    let is_raised = !last.starts_with(&format!("protocol {PROTOCOL}:"));
    assert!(is_raised, "a type of the wire has changed: raise PROTOCOL in proto/src/preamble.rs");
    assert!(
        std::env::var_os(WRITE_VARIABLE).is_some(),
        "the protocol is a new one: run this test with {WRITE_VARIABLE}=1"
    );
    std::fs::write(file(), known + &now).expect("can be written");
}

#[test]
fn every_change_of_a_type_is_noticed_and_none_of_a_name() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct Old {
        first: u32,
        second: Option<u64>,
        third: Kind,
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    enum Kind {
        One,
        Two(String),
    }
    macro_rules! digest_of {
        ($name:ident { $($fields:tt)* }) => {{
            #[derive(Deserialize)]
            #[expect(dead_code, reason = "only its shape is looked at")]
            struct $name { $($fields)* }
            digest::<$name>().0
        }};
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    enum Grown {
        One,
        Two(String),
        Three,
    }
    let old = digest::<Old>().0;
    assert_eq!(digest_of!(Renamed { a: u32, b: Option<u64>, c: Kind, }), old);
    for (changed, what) in [
        (digest_of!(Swapped { second: Option<u64>, first: u32, third: Kind, }), "the order of fields"),
        (digest_of!(Wider { first: u64, second: Option<u64>, third: Kind, }), "the width of a number"),
        (digest_of!(More { first: u32, second: Option<u64>, third: Kind, fourth: bool, }), "a field more"),
        (digest_of!(Inner { first: u32, second: Option<u32>, third: Kind, }), "what an option holds"),
        (digest_of!(Variant { first: u32, second: Option<u64>, third: Grown, }), "a variant more"),
    ] {
        assert_ne!(changed, old, "{what}");
    }
}

#[test]
fn few_values_are_refused_so_that_all_of_a_type_is_seen() {
    let mut inventor = Inventor { state: 1, digest: 0, kinds: 0 };
    let refused = (0..WALKS).filter(|_| PyexecResponse::deserialize(&mut inventor).is_err()).count();
    assert!(refused * 10 < usize::try_from(WALKS).expect("fits"), "{refused} of {WALKS}");
    assert!(inventor.kinds > WALKS * 8, "only {} values were asked for", inventor.kinds);
}
