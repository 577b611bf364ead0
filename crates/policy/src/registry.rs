//! One line a member: how scorers, allocators, selectors and presets become one enum, one union in TypeScript and one dispatch.

/// Declares the members of a family. Each line `module::Type = "kind"` names the file `module.rs` beside the invocation, its
/// options struct and the `kind` of its JSON form. Produces the tagged enum, `KINDS`, `kind()`, `described()`, `From<Type>`, and a macro
/// (named after `via`) that runs one expression on whichever member a value holds: static dispatch, no trait objects.
/// The first token is a `$` for that inner macro.
macro_rules! registry {
    (
        ($d:tt)
        $(#[$meta:meta])*
        pub enum $Enum:ident via $with:ident {
            $( $module:ident::$Type:ident = $kind:literal ),+ $(,)?
        }
    ) => {
        $( mod $module; pub use $module::$Type; )+

        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ts_rs::TS)]
        #[serde(tag = "kind")]
        #[allow(missing_docs, reason = "a variant holds the options of the type that it is named after")]
        pub enum $Enum {
            $( #[serde(rename = $kind)] $Type($Type) ),+
        }

        impl $Enum {
            /// Every `kind`, in the order of the registry.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];

            /// Every member as `docs/policies.md` has it: what does not [`Describe`](crate::Describe) itself does not compile.
            pub fn described() -> Vec<crate::Described> {
                vec![$( crate::Described::of::<$Type>($kind) ),+]
            }

            /// The `kind` of this value.
            pub fn kind(&self) -> &'static str {
                match self { $( Self::$Type(_) => $kind ),+ }
            }
        }

        $( impl From<$Type> for $Enum {
            fn from(options: $Type) -> Self { Self::$Type(options) }
        } )+

        macro_rules! $with {
            ($d value:expr, $d it:ident => $d body:expr) => {
                match $d value { $( $Enum::$Type($d it) => $d body ),+ }
            };
        }
    };
}
pub(crate) use registry;
