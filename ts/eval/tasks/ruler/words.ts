const list = (text: string): string[] => text.trim().split(/\s+/)

/** Common English adjectives. No word of the three lists is a part of another, so that none is found inside another. */
export const ADJECTIVES: readonly string[] = list(`
  abrupt absent acidic active actual adept afraid alert amber ample ancient angry annual anxious arctic ardent
  awake aware bitter bleak blind blonde blunt brave brief bright brisk broad bronze calm careful casual cautious
  central cheap cheerful chilly civic classic clever clumsy coastal common complex content cozy crimson crisp cruel cubic
  curious curly daily damp daring decent deep delicate dense diligent dim distant dizzy double drowsy dusty eager early
  eastern elastic elegant empty endless equal exact excited exotic faint familiar famous fancy fatal feeble fierce final
  firm fluent foreign formal fragile frank frequent friendly frosty frozen fuzzy gentle genuine giant glad gloomy glossy
  golden grateful greedy grumpy handsome happy harsh hasty helpful hidden hollow honest hungry ideal idle immense
  innocent intense jealous jolly joyful keen kind lasting lavish lazy legal lively local lonely loyal lucky magic
  mature mellow merry mighty minor modern modest mute narrow native nervous noble noisy normal northern obvious odd
  oval peaceful playful polite popular precise proud public purple quick quiet quirky rapid rare ready recent
  regular remote rigid robust rotten royal rude rural rusty sacred scarce secret serious severe shallow sharp shiny
  silent simple sincere skilled sleepy slender slim smooth sober social solid spare steady steep sticky stiff strict
  stubborn subtle sudden sunny sweet swift tender thirsty thorough tidy timid tiny tough tragic typical ugly
  unique urban urgent vague valid vast violet vivid weary weird wicked wild wise witty wooden worthy young zealous`)

/** Common English nouns. */
export const NOUNS: readonly string[] = list(`
  acorn airport album almond anchor angle ankle apple apron attic autumn avenue badge bakery balcony
  bamboo banana banner barrel basket battery beach beaver bedroom bicycle biscuit blanket blossom bottle branch bread
  breeze bridge bucket budget bullet butter cabin cactus camera canal candle canyon captain carpet carrot castle cattle
  cellar cement chapel cheese cherry chicken chimney circle citizen climate clinic closet cloud coconut coffee collar
  colony comet copper coral corner cottage cotton couch cousin cradle crater cricket crystal cupboard curtain cushion
  dancer daisy desert dinner doctor dolphin donkey dragon drawer eagle elbow engine envelope fabric factory falcon
  farmer feather fence ferry festival finger flame flute forest fountain galaxy garage garden garlic ginger glacier
  glove goblet gravel guitar hammer harbor helmet herring hotel island jacket jewel journal jungle kettle kitchen kitten
  ladder lantern laptop lawyer leather lemon library lizard lobster magnet mango maple marble market meadow melon
  mirror monkey mountain muffin museum mustard napkin nephew notebook novel ocean olive onion orchard otter oyster
  paddle palace panda parrot pasture peanut pebble pencil pepper piano pigeon pillow pirate planet pocket poem pollen
  potato prairie pumpkin puppet puzzle pyramid rabbit radio raven ribbon river robot rocket saddle sailor salmon
  sandal saucer school scissors shadow shelter shoulder shovel singer spider spinach squirrel stadium station statue
  stomach sugar summer sunset supper sweater table teacher temple theater thunder ticket tiger timber tobacco tomato
  tractor trumpet tunnel turtle umbrella uncle valley vanilla velvet village vinegar violin volcano wagon wallet walnut
  warrior whistle willow window winter wizard zebra zipper`)

/** Common English verbs. */
export const VERBS: readonly string[] = list(`
  accept achieve adapt admire admit advise afford agree amuse announce appear approve argue arrive assist assume
  attend avoid become behave believe belong borrow bounce breathe bring build carry catch choose collect combine compare
  complain confess confuse consider convince create decide defend deliver demand deny depend describe destroy
  detect develop differ discover divide doubt embrace employ enable enjoy enter escape examine exist expand explain
  explore express extend follow forget forgive gather govern guess handle happen identify ignore imagine improve include
  inform inherit insist invent invite juggle justify knock laugh launch lead learn listen manage measure memorize
  mention migrate multiply notice obey observe obtain occur offer operate organize persuade polish possess postpone
  pretend prevent produce promise protect provide punish realize receive recover reduce refuse reject relax remain
  remember remove repair repeat replace request rescue resist respond return reveal revise scatter scream search settle
  shiver shrink sketch solve sparkle squeeze stumble succeed suggest supply surprise swallow tickle transform travel
  tremble unlock vanish wander whisper wonder worry wrestle yawn`)
