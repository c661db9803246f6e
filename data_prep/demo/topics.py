"""What the voices of the demo corpus talk about: topics, each with other words for it and sentences to be spoken.

Data only. A sentence has 6–12 words, so that it fits a clip of 3–5 s, and carries words characteristic of its topic, so
that a transcript tells the topic even with a word or two wrong.
"""

from typing import NamedTuple


class Topic(NamedTuple):
    name: str  # as captions name it
    other_words: str  # as captions paraphrase it
    sentences: tuple[str, ...]


_TEXT = """
volcanoes | lava and magma
  hot magma rises until the volcano erupts | lava flows slowly down the side of the volcano
  ash from an eruption can cover whole towns | a sleeping volcano may still hide molten magma
baking bread | dough and yeast
  knead the bread dough until it feels smooth | yeast makes the dough rise in a warm kitchen
  bake the loaf until the crust turns brown | mix flour water and yeast for good bread
chess | pawns and bishops
  move your pawn forward and open the bishop | the knight and the bishop attack the king
  a good chess opening controls the centre squares | checkmate ends the game when the king is trapped
astronomy | stars and galaxies
  our galaxy holds more than a hundred billion stars | this telescope shows us the rings of saturn
  planets travel around their star on long orbits | a distant galaxy looks like a faint cloud
football | goals and penalties
  the striker scores a goal after the corner kick | the keeper saves the penalty in the final minute
  our midfielder passes the ball to the striker | the referee gives a penalty for that tackle
gardening | seeds and flower beds
  plant the tomato seeds in rich garden soil | water your flower beds early in the morning
  good compost helps roses and vegetables to grow | pull the weeds before they spread their seeds
bees | honey and hives
  worker bees carry pollen back to the hive | the beekeeper takes honey from the wooden hive
  a queen bee lays thousands of eggs | bees dance to show where nectar is found
sharks | fins and sharp teeth
  a great white shark smells blood from far away | sharks lose many teeth and grow new ones
  the fin of the shark cuts through the water | this reef shark hunts small fish at night
dinosaurs | fossils and giant reptiles
  the dinosaur left a fossil in this old rock | a giant reptile with three horns ate plants
  scientists dig fossil bones out of the desert | dinosaurs died out after an asteroid hit us
painting | brushes and canvas
  dip your brush in oil paint and start | the canvas shows a portrait in warm paint
  mix two paints until the shade looks right | the painter covers her canvas with broad brush strokes
swimming | strokes in the pool
  breathe on every third stroke in the pool | swimmers dive into the lane and kick hard
  the butterfly stroke is the hardest to swim | wear goggles when you swim in the pool
cooking pasta | noodles and tomato sauce
  boil the spaghetti in plenty of salted water | stir basil and garlic into the tomato sauce
  drain the noodles and grate some cheese over | fresh pasta cooks in only two minutes
medicine | doctors and vaccines
  the doctor gives the patient a vaccine | this medicine lowers fever and helps against pain
  a nurse checks the blood pressure of the patient | surgeons in the hospital repair the broken bone
computers | software and processors
  the processor runs billions of instructions every second | install the software and restart your computer
  a computer keeps its data in memory chips | the programmer finds a bug in the software
the weather | clouds and forecasts
  the forecast promises sunshine and mild temperatures | dark clouds bring heavy showers by the evening
  tomorrow will be windy with scattered clouds | a cold front pushes temperatures below zero
money | banks and interest
  the bank pays two percent interest on savings | put some money into stocks and some into bonds
  inflation makes your savings lose their value | investors borrow from the bank at high interest
elections | votes and parliament
  voters choose a new parliament this sunday | the candidate won the election by few votes
  count every ballot before the result is announced | the president lost her majority in parliament
yoga | stretching and calm breathing
  stretch both arms and hold this yoga pose | breathe calmly and relax your shoulders on the mat
  the downward dog pose stretches your legs | yoga keeps the spine flexible and the mind calm
cats | kittens and purring
  the kitten purrs when you stroke its fur | cats sharpen their claws on the old sofa
  a cat uses whiskers to feel its way | two kittens sleep together in the basket
horses | saddles and stables
  put the saddle on the horse and ride | the horse gallops back to its stable
  brush the mane and clean out the stable | a young foal stands beside the mare
penguins | antarctic ice
  penguins slide over the antarctic ice on their bellies | the emperor penguin keeps its egg warm
  thousands of penguins gather in one colony | a penguin cannot fly but dives deep
whales | giants of the ocean
  the blue whale is the largest animal in the ocean | whales sing to each other under water
  a humpback whale leaps out of the ocean | the whale breathes through a blowhole
ancient rome | emperors and gladiators
  gladiators fought before the roman emperor | roman legions built straight roads and aqueducts
  caesar crossed the river with his legion | the emperor ruled rome from his palace
pyramids | pharaohs and mummies
  the pharaoh was buried inside the great pyramid | workers dragged stone blocks up the pyramid
  priests wrapped the mummy in linen cloth | egyptian tombs were filled with gold for the pharaoh
coffee | espresso and roasted beans
  grind the roasted beans right before brewing coffee | an espresso needs hot water under pressure
  pour steamed milk over the espresso | light roasted coffee tastes more of fruit
tea | leaves in a hot pot
  pour hot water over the tea leaves | green tea should steep for two minutes
  serve the tea from a warm pot | black tea leaves grow on steep plantations
chocolate | cocoa and sweets
  melt the dark chocolate over warm water | cocoa beans are dried before they become chocolate
  pour the melted cocoa into sweet moulds | good chocolate breaks with a clean snap
skiing | slopes and fresh powder
  bend your knees when you ski down the slope | fresh powder makes skiing in the alps great
  take the lift up to the highest slope | ski jumpers lean far over their skis
cycling | pedals and gears
  shift to a lower gear before the climb | the cyclist pedals hard in the last lap
  pump both tyres before you ride the bicycle | a clean chain makes your bicycle faster
robots | arms that build machines
  the robot arm lifts parts in the factory | sensors help a robot to find its way
  engineers teach the robot to grasp a cup | this robot welds machines all day long
electricity | volts and wires
  electric current flows through the copper wire | a battery gives twelve volts of power
  never touch a bare wire under high voltage | the fuse stops the current in time
the human brain | neurons and memory
  neurons in the brain send tiny signals | sleep helps our brain to store a memory
  the brain learns by linking its neurons | one half of the brain steers the other hand
photography | lenses and shutters
  choose a short shutter time for sharp photographs | a wide lens takes in the whole landscape
  the photographer focuses her camera on the eyes | open the aperture when light is low
dancing | waltz and tango steps
  the waltz has three steps in every bar | lead your partner through the tango turn
  dancers spin across the ballroom floor | keep your back straight in the tango
mathematics | numbers and equations
  solve the equation for the unknown number | a prime number has only two divisors
  the triangle theorem needs a short proof | add both fractions to solve this equation
grammar | verbs and nouns
  the verb agrees with the noun before it | put the adjective in front of the noun
  this sentence has a subject and a verb | past tense verbs often end in two letters
mountaineering | ropes and summits
  the climbers reached the summit at dawn | tie the rope before you climb the cliff
  thin air near the summit makes climbing hard | a guide secures the rope on the glacier
fishing | hooks and bait
  put fresh bait on the fishing hook | the fisherman pulls a big trout ashore
  cast your line close to the reeds | salmon bite the bait best at dusk
rockets | launches into orbit
  the rocket launches into orbit tonight | three astronauts ride the rocket to the station
  the first stage of the rocket burns fuel fast | a satellite leaves the capsule in orbit
sewing | needles and thread
  pull the thread through the eye of the needle | sew the button on with strong thread
  the sewing machine makes an even stitch | cut the fabric before you sew the seam
recycling | waste and plastic
  put plastic bottles into the yellow waste bin | recycled paper saves water and trees
  sort your waste before you throw it out | old glass is melted and recycled into bottles
earthquakes | shaking ground
  the earthquake shook the ground for a minute | tectonic plates slide and the ground trembles
  seismic waves travel through the shaking earth | strong buildings survive an earthquake with little damage
cleaning the house | dust and carpets
  vacuum the carpet twice to remove the dust | dust hides under the sofa and the carpet
  empty the dust bag of the vacuum cleaner | clean the carpet with soap and a brush
"""


def _parse(text: str) -> tuple[Topic, ...]:
    topics = []
    for block in text.replace("\n  ", " | ").strip().splitlines():
        name, other_words, *sentences = (part.strip() for part in block.split("|"))
        topics.append(Topic(name, other_words, tuple(sentences)))
    return tuple(topics)


TOPICS = _parse(_TEXT)
